"""One site's index: what the grid asks of SQLite, of PostgreSQL, and of memory.

A catalogue holds rows of versions and debts. Both are sets: adding what is there changes nothing (but a
row's provenance, which becomes the earlier), so any call may be repeated. All that is derived (studies,
series, patients, counts) follows from the set of rows alone, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.nouns import Debt, Instance, Provenance, SiteIdentity, Version
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
class Match:
    """One entity that a query matched, as one catalogue knows it."""

    uid: tuple[str, ...]
    """What identifies it: (patient key,), (study,), (study, series), or (study, series, sop)."""
    header: bytes
    """The packed header of the instance that stands for it: that of the least (provenance, digest)."""
    version: Version
    """The version that header is from; at IMAGE level the instance's current version."""
    instances: int
    """Number of SOP instances below (1 at IMAGE level)."""
    series: int
    """Number of series below."""
    studies: int
    """Number of studies below (1 below PATIENT level)."""
    modalities: tuple[str, ...]
    """All values of Modality (0008,0060) below, sorted; at IMAGE level those of its series."""
    sop_classes: tuple[str, ...]
    """All values of SOP Class UID (0008,0016) below, sorted."""
    order: int
    """The `order` of that version: of two catalogues' current versions the one with the higher is current."""
    precedence: str
    """By what that version stands here (`attributes.precedence`): of two catalogues' the lesser stands."""
    fingerprint: int
    """Of the set of instances below, in any order (`attributes.fingerprint`)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much one catalogue holds."""

    patients: int
    studies: int
    series: int
    instances: int
    versions: int
    size_bytes: int
    debts: int


class Catalogue(Protocol):
    """One site's index."""

    @property
    def name(self) -> str:
        """Name of the site."""

    async def add(self, row: Row, debts: Sequence[Debt] = ()) -> int:
        """Add a row, and debts with it, in one durable transaction (shared with concurrent calls).

        A row that is there keeps its place: only its provenance is merged with the new one, and its order
        is raised to `row.order` when that is higher.

        Returns
        -------
        int
            The `order` the row has here now. A new row has the one it comes with, decided at other sites; if
            that is 0, one more than the highest of the other versions of the instance that are here.

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

    async def debts(self, limit: int, *, site: str | None = None) -> Sequence[Debt]:
        """Return the debts noted here, the oldest first: those that `site` is owed, or all.

        A site that stays away leaves ever more debts: asked for by site, they hide no others.

        Raises
        ------
        CatalogueUnavailable
        """

    async def rows_of(self, instance: Instance) -> Sequence[Row]:
        """Return the rows of all versions of an instance, the current one first.

        Current is the highest by (order, received, digest).

        Raises
        ------
        CatalogueUnavailable
        """

    def find(self, query: Query, limit: int) -> AsyncGenerator[Match]:
        """Return what matches, ordered by `Match.uid`, at most `limit`; read in pages: nobody waits for it.

        Raises
        ------
        CatalogueUnavailable
        """

    def walk(self) -> AsyncGenerator[tuple[Instance, str, str]]:
        """Return (instance, digest, key) of every version held, ordered by instance, then digest.

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
