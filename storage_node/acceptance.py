"""Which associations a worker takes, by what the settings say now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.dicom.negotiation import AcceptancePolicy

if TYPE_CHECKING:
    from cluster.dicom.acceptor import Acceptor
    from cluster.settings import Settings
    from cluster.settings.live import LiveSettings


def policy(settings: Settings) -> AcceptancePolicy:
    """Return what is taken of what callers propose."""
    dicom = settings.dicom
    # The cluster itself calls, too, to see whether a worker is well.
    known = settings.known_aes | {dicom.ae_title} if dicom.check_calling_ae_title else None
    return AcceptancePolicy(
        ae_title=dicom.ae_title,
        check_called_ae_title=dicom.check_called_ae_title,
        calling_ae_titles=known,
        accept_unknown_storage=dicom.accept_unknown_storage,
        max_associations=settings.limits.associations,
    )


def follow(acceptor: Acceptor, live: LiveSettings) -> None:
    """Have an acceptor go by the settings that hold when somebody calls."""

    def admit(now: Settings) -> None:
        acceptor.policy, acceptor.limits = policy(now), now.upper_layer_limits

    live.follow(admit)
