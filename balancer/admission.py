"""Who may come in, before any worker is asked: pure."""

from __future__ import annotations

from dataclasses import dataclass

from balancer.associate_rq import RejectReason
from balancer.caller import Caller
from balancer.ceilings import Ceilings
from cluster.settings import Settings


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a caller is not let in."""

    reason: RejectReason
    """What it is told."""
    setting: str
    """Key of the setting that says so."""
    why: str
    """What the log is told."""

    @property
    def is_of_ae_title(self) -> bool:
        """Whether the caller is wrong here, rather than one too many."""
        return self.reason is not RejectReason.LOCAL_LIMIT_EXCEEDED


def refusal_of(caller: Caller, settings: Settings, ceilings: Ceilings) -> Refusal | None:
    """Return why a caller is refused, or None.

    What is wrong for ever comes before what is so for now: a caller that is told of a limit tries again, and
    may, until it is told that it has the wrong number.

    Parameters
    ----------
    caller : Caller
    settings : Settings
        `dicom`, `peers`, `destinations` and `limits` decide.
    ceilings : Ceilings
    """
    dicom = settings.dicom
    if dicom.check_called_ae_title and caller.called_ae not in (None, dicom.ae_title):
        return Refusal(
            RejectReason.CALLED_AE_NOT_RECOGNIZED,
            "dicom.check_called_ae_title",
            f"it calls {caller.called_ae}, this is {dicom.ae_title}",
        )
    if dicom.check_calling_ae_title and not (
        caller.calling_ae is None or _knows(settings, caller.calling_ae)
    ):
        return Refusal(
            RejectReason.CALLING_AE_NOT_RECOGNIZED,
            "dicom.check_calling_ae_title",
            f"{caller.calling_ae} is neither a peer nor a destination",
        )
    reached = ceilings.reached(settings.limits, caller)
    if reached is None:
        return None
    return Refusal(RejectReason.LOCAL_LIMIT_EXCEEDED, f"limits.{reached.ceiling}", str(reached))


def _knows(settings: Settings, ae_title: str) -> bool:
    return any(peer.ae_title == ae_title for peer in settings.peers) or any(
        destination.ae_title == ae_title for destination in settings.destinations
    )
