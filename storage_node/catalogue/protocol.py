"""One site's index: what the grid asks of SQLite, of PostgreSQL, and of memory.

A catalogue holds rows of versions, facts, and debts. All are sets: adding what is there changes nothing (but
a row's provenance, which becomes the earlier, and its order, which becomes the higher), so any call may be
repeated. All that is derived (studies, series, patients, counts, what is hidden) follows from the sets of
rows and facts alone, in whatever order they came.

What is a site's own business, and differs from site to site, is in no fingerprint: an object's key, and when
it was verified.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from cluster.nouns import Debt, Fact, FactKind, Instance, Provenance, SiteIdentity, Version
from storage_node.catalogue.feed import Change
from storage_node.catalogue.matching import Query


class CatalogueUnavailable(Exception):
    """The catalogue did not do what was asked. What was asked may have happened all the same."""

    def __init__(self, site: str, reason: str) -> None:
        super().__init__(f"catalogue of site {site}: {reason}")
        self.site = site
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Row:
    """What a catalogue keeps of one copy."""

    version: Version
    provenance: Provenance
    header: bytes
    """The header's raw elements (`cluster.dicom.elements.pack`): every other column is derived from it."""
    flags: tuple[str, ...] = ()
    """What was odd about it, in words of one kind each (`odd_length`, `no_patient_id`)."""
    order: int = 0
    """One more than the highest `order` that other versions of the instance had when it was added first.

    0 in a row that is to be added: not decided yet.
    """


@dataclass(frozen=True, slots=True)
class Met:
    """What an insert met."""

    order: int
    """The `order` the row has here now."""
    key: str
    """Where the row says that the site's copy is: another than was added, if it was there already."""
    facts: tuple[Fact, ...] = ()
    """All facts about the instance that are here."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a walk says of one row."""

    instance: Instance
    digest: str
    key: str
    size_bytes: int
    order: int
    provenance: Provenance
    verified_at: datetime
    """When the site's own copy was last known to have the right bytes: written, or read and checked."""
    is_streamed: bool
    """Whether it has block digests and a manifest."""
    flags: tuple[str, ...] = ()
    """What was odd about it."""


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study in so few words that two sites can compare a million of them."""

    study_instance_uid: str
    entries: int
    """Number of versions and facts."""
    fingerprint: int
    """Of the set of rows and facts, in any order (`views.row_fingerprint`, `views.fact_fingerprint`)."""


@dataclass(frozen=True, slots=True)
class Match:
    """One entity that a query matched, as one catalogue knows it."""

    uid: tuple[str, ...]
    """What identifies it: (patient key,), (study,), (study, series), or (study, series, sop)."""
    header: bytes
    """The packed header of the version that stands for it: that of the least (provenance, digest), among
    those of instances that are not hidden, or among all if all are."""
    version: Version
    """The version that header is from; at IMAGE level the instance's current version."""
    instances: int
    """Number of SOP instances below that are not hidden; 0 when all are, by what is known here."""
    series: int
    """Number of series below with such instances."""
    studies: int
    """Number of studies below with such instances (1 or 0 below PATIENT level)."""
    modalities: tuple[str, ...]
    """All values of Modality (0008,0060) of these series, sorted; at IMAGE level those of its series."""
    sop_classes: tuple[str, ...]
    """All values of SOP Class UID (0008,0016) of these instances' current versions, sorted; at IMAGE level
    that of the instance, hidden or not."""
    order: int
    """The `order` of that version: of two catalogues' current versions the one with the higher is current."""
    precedence: str
    """By what that version stands here (`views.precedence`): of two catalogues' the lesser stands."""
    fingerprint: int
    """Of the set of instances below, each with whether it is hidden, in any order (`views.fingerprint`)."""
    rulings: tuple[Fact, ...] = ()
    """At IMAGE level the facts about the instance that hold here (`views.rulings`)."""
    corrected: tuple[tuple[str, str], ...] = ()
    """What was corrected of the entity and those above it: texts by tags, as `Fact.details` has them. They
    are to be said instead of what the header says."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much one catalogue holds."""

    patients: int
    studies: int
    series: int
    instances: int
    """Those that are not hidden; of patients, studies and series those that have such instances."""
    versions: int
    """All of them, of hidden instances, too; so is the size."""
    size_bytes: int
    debts: int


class Catalogue(Protocol):
    """One site's index."""

    @property
    def name(self) -> str:
        """Name of the site."""

    async def add(self, row: Row, debts: Sequence[Debt] = (), *, verified_at: datetime) -> Met:
        """Add a row, and debts with it, in one durable transaction (shared with concurrent calls).

        Into a row that is there the new one is merged: it has then the earlier provenance, the higher order,
        and the key of the copy that was verified last (the new one's, if at the same time), with that time.

        Returns
        -------
        Met
            With the `order` the row has here now. A new row has the one it comes with, decided at other
            sites; if that is 0, one more than the highest of the instance's other versions that are here.

        Raises
        ------
        CatalogueUnavailable
        """

    async def decide(self, fact: Fact, debts: Sequence[Debt] = ()) -> None:
        """Add a fact, and debts with it, in one durable transaction. No row of its subject need be here.

        Raises
        ------
        CatalogueUnavailable
        """

    async def owe(self, debts: Sequence[Debt]) -> None:
        """Add debts, durably.

        Raises
        ------
        CatalogueUnavailable
        """

    async def settle(self, site: str, held: Row) -> None:
        """Remove the debt of a site that holds a version by now, with this row; no error if there is none.

        It stays where the row here has a higher order or an earlier provenance: these came since, perhaps
        with that very debt, and have to get there, too.

        Raises
        ------
        CatalogueUnavailable
        """

    async def forgive(self, debt: Debt) -> None:
        """Remove a debt of a fact, which the site holds by now; no error if there is none.

        Raises
        ------
        CatalogueUnavailable
        """

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        """Return the debts noted here, the oldest first: those that `site` is owed, or all.

        A site that stays away leaves ever more debts: asked for by site, they hide no others.

        Raises
        ------
        CatalogueUnavailable
        """

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        """Return the rows of all versions of an instance, the highest by (order, received, digest) first.

        That is the current one, unless another was chosen (`views.chosen`).

        Raises
        ------
        CatalogueUnavailable
        """

    async def facts_of(self, instance: Instance) -> Sequence[Fact]:
        """Return all facts about an instance, or another subject, those of the highest epoch first.

        So of each topic, the one that holds comes first (`views.authority`).

        Raises
        ------
        CatalogueUnavailable
        """

    async def verified(self, copies: Sequence[tuple[Instance, str]], at: datetime) -> None:
        """Note that the copies of these versions (instance, digest) here were read and found right.

        Raises
        ------
        CatalogueUnavailable
        """

    async def least_verified(self, before: datetime, limit: int) -> Sequence[Entry]:
        """Return the entries whose copies were last verified before then, the longest ago first.

        Of those verified at the same time, the one that was added first.

        Raises
        ------
        CatalogueUnavailable
        """

    def find(
        self, query: Query, limit: int, *, looked: Callable[[], None] | None = None
    ) -> AsyncGenerator[Match]:
        """Return what matches, ordered by `Match.uid`, at most `limit`; read in pages: nobody waits for it.

        After each page `looked` is called, which may be long before anything matches.

        What is hidden is returned, too, and says so (`Match.instances`, `Match.rulings`): another catalogue
        may know better. The attributes of an entity are those of an instance that is not hidden, if any is.

        Raises
        ------
        CatalogueUnavailable
        """

    def walk(self, study_instance_uid: str | None = None) -> AsyncGenerator[Entry]:
        """Return an entry for every version held, or for those of a study, by instance, then digest.

        Raises
        ------
        CatalogueUnavailable
        """

    def studies(self) -> AsyncGenerator[StudySummary]:
        """Return a summary of every study of which there is a row or a fact, ordered by UID.

        Raises
        ------
        CatalogueUnavailable
        """

    async def facts_in(self, study_instance_uid: str) -> Sequence[Fact]:
        """Return all facts about a study and what is in it, by subject, those of the highest epoch first.

        Raises
        ------
        CatalogueUnavailable
        """

    async def changes(self, after: str | None, limit: int) -> Sequence[Change]:
        """Return the versions and facts that came after a cursor, in the order in which they came.

        None is ever passed over: not one that is being added while others, which began later, are there. What
        is merged into a row is no change. Fewer than `limit` say that this is the end, for now.

        Parameters
        ----------
        after : str or None
            `Change.cursor` of the last one that was read; None for the beginning. So is a cursor of another
            catalogue, or of one that was here before, and what is no cursor.
        limit : int
            How many at most.

        Raises
        ------
        CatalogueUnavailable
        """

    def ruled(self, kind: FactKind, *, after: str = "") -> AsyncGenerator[Fact]:
        """Return the facts of a kind that hold, by subject; of studies whose UID is after `after`.

        Raises
        ------
        CatalogueUnavailable
        """

    async def counts(self) -> Counts:
        """Return how much is held.

        Raises
        ------
        CatalogueUnavailable
        """

    async def identity(self) -> SiteIdentity:
        """Read which site this is: a light probe, too.

        Raises
        ------
        CatalogueUnavailable
            Also when the file is gone or is another than the one that was opened.
        """

    async def close(self) -> None:
        """Let go of handles and threads, after what was asked is done."""
