"""What is said and counted of an association, and by which names it is known there."""

from __future__ import annotations

import structlog
from prometheus_client import Counter, Gauge

from cluster.dicom.faults import Ending
from cluster.dicom.upper_layer import Role

ESTABLISHED = Gauge("atria_associations", "Associations that are established now", ["role"])
OUTCOMES = Counter(
    "atria_association_outcomes_total", "Associations by what became of them", ["role", "outcome"]
)
FAULTS = Counter("atria_upper_layer_faults_total", "What peers did wrong, by kind", ["kind"])

log = structlog.get_logger()


class Account:
    """One association, as metrics and the log show it.

    Parameters
    ----------
    role : Role
        Ours.
    """

    def __init__(self, role: Role) -> None:
        self.is_probe = False
        """Nobody asks for anything: it is looked whether we are well, and that every few seconds."""
        self.association_id = ""
        self.calling_ae = ""
        self.called_ae = ""
        self.source = ""
        self._role = role
        self._is_established = False

    @property
    def counted_as(self) -> str:
        """Return the role by which metrics know the association."""
        return "probe" if self.is_probe else self._role

    def who(self) -> dict[str, str]:
        """Return the fields by which the association is known in logs."""
        return {
            "association": self.association_id,
            "role": self._role.value,
            "calling_ae": self.calling_ae,
            "called_ae": self.called_ae,
            "source": self.source,
        }

    def note_fault(self, kind: str, what: str) -> None:
        """Count and log what a peer did wrong."""
        FAULTS.labels(kind=kind).inc()
        log.warning("association.fault", kind=str(kind), what=what, **self.who())

    def note_established(self) -> None:
        """Count and log that the association is established."""
        self._is_established = True
        ESTABLISHED.labels(role=self.counted_as).inc()
        OUTCOMES.labels(role=self.counted_as, outcome="accepted").inc()
        self._say("association.accepted")

    def note_ended(self, how: Ending, why: str) -> None:
        """Count and log that it has ended, if it was established."""
        if self._is_established:
            ESTABLISHED.labels(role=self.counted_as).dec()
            OUTCOMES.labels(role=self.counted_as, outcome=how).inc()
            self._say("association.ended", how=how.value, why=why)

    def _say(self, event: str, **fields: str) -> None:
        say = log.debug if self.is_probe else log.info
        say(event, **fields, **self.who())
