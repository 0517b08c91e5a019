"""What must hold, looked for in each site behind the grid's back, at every acknowledgement and at the end."""

from __future__ import annotations

from contextlib import aclosing
from itertools import combinations
from typing import TYPE_CHECKING, Final

from cluster.nouns import Level
from storage_node.catalogue.matching import Query
from storage_node.catalogue.views import is_hidden
from tests.simulation.link import FAIR
from tests.simulation.model import Kind
from tests.simulation.site import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cluster.nouns import Fact, Instance, Version
    from storage_node.grid.arrival import Stored
    from tests.simulation.model import Model, Operation
    from tests.simulation.process import Process
    from tests.simulation.site import Site
    from tests.simulation.world import World

W: Final = 2
"""Copies that an acknowledgement stands for."""
R: Final = 2
"""Sites of which one knows whatever was acknowledged."""

_ALL: Final = 10_000


class Violation(Exception):
    """Something that must hold does not."""


def check(holds: bool, what: str) -> None:
    """Raise `Violation` unless something holds."""
    if not holds:
        raise Violation(what)


class Judge:
    """Looks at a world, and compares it with what was asked for."""

    def __init__(self, world: World, model: Model) -> None:
        self._world = world
        self._model = model

    async def stored(self, operation: Operation, stored: Stored) -> None:
        """Check what an acknowledgement of a version stands for."""
        version = stored.version
        lost = self._world.lost_since(operation.began)
        others_began = self._model.since_when_others_may_write(operation)
        holders, damaged = set(), set()
        for site in self._world.sites:
            row = await site.row(version)
            if row is not None and site.holds_bytes(row.version):
                holders.add(site.name)
            elif row is not None and self._world.is_damaged(site, row.version, others_began):
                damaged.add(site.name)
        self._check_acknowledged(f"version {version.digest[:8]}", holders, damaged, lost)
        await self._check_owed(version.instance, version.digest, holders | damaged, lost)
        check(
            set(stored.copies) <= holders | damaged | lost,
            f"{stored.copies} are said to hold {version.digest[:8]}, and {sorted(holders)} do",
        )
        await self.known()

    async def decided(self, operation: Operation, fact: Fact) -> None:
        """Check what an acknowledgement of a fact stands for."""
        lost = self._world.lost_since(operation.began)
        holders = {site.name for site in self._world.sites if await site.holds_fact(fact)}
        self._check_acknowledged(f"{fact.kind} of epoch {fact.epoch}", holders, set(), lost)
        await self._check_owed(fact.instance, fact.digest, holders, lost)
        await self.known()

    def _check_acknowledged(self, what: str, holders: set[str], damaged: set[str], lost: set[str]) -> None:
        check(
            bool(holders) and len(holders | damaged | lost) >= W,
            f"{what} was acknowledged, and only {sorted(holders)} hold it",
        )

    async def _check_owed(self, instance: Instance, digest: str, holders: set[str], lost: set[str]) -> None:
        """Check that each site that lacks it is noted as a debt at W sites."""
        noted: dict[str, set[str]] = {site.name: set() for site in self._world.sites}
        for site in self._world.sites:
            for debt in await site.debts():
                if debt.instance == instance and debt.digest == digest:
                    noted[debt.site].add(site.name)
        for name in sorted(noted.keys() - holders - lost):
            check(
                len(noted[name] | lost) >= W,
                f"{name} lacks {digest[:8]}, which is noted at {sorted(noted[name])} only",
            )

    async def known(self) -> None:
        """Check that R sites that vote, whichever they are, know all that was acknowledged until now."""
        for instance in self._model.instances():
            await self._check_known(instance)

    async def _check_known(self, instance: Instance) -> None:
        now = self._world.loop.time()
        wanted = {digest for digest, version in self._model.versions.items() if version.instance == instance}
        may = self._model.may_be_visible(instance, now, now)
        voters = [site for site in self._world.sites if not self._world.memberships[site.name].filling]
        for asked in combinations(voters, R):
            names = "".join(site.name for site in asked)
            rows = {row.version.digest for site in asked for row in await site.catalogue.rows_of(instance)}
            check(wanted <= rows, f"{names} do not know {sorted(wanted - rows)}")
            facts = [fact for site in asked for fact in await site.facts(instance)]
            visible = bool(rows) and not is_hidden(facts)
            check(
                visible in may, f"{names} take {instance.sop_instance_uid} for visible={visible}, may {may}"
            )

    def read(self, version: Version, pieces: Sequence[bytes]) -> None:
        """Check bytes that a read gave."""
        wanted = next(
            operation.content
            for operation in self._model.operations
            if operation.content is not None and operation.content.digest == version.digest
        )
        check(b"".join(pieces) == wanted.bytes, f"a read of {version.digest[:8]} gave other bytes")

    async def readable(self, process: Process, version: Version) -> set[str]:
        """Return from which sites a process must be able to read a version, as long as they stay as they are.

        Each is named with the times since when it, and the link to it, are well.
        """
        return {
            f"{site.name} {site.changed_at} {link.changed_at}"
            for site, link in zip(self._world.sites, process.links.values(), strict=True)
            if process.alive
            and site.state in (State.WELL, State.FULL)
            and link.weather == FAIR
            and await site.holds(version)
        }

    def found(self, found: Iterable[Instance], since: float) -> None:
        """Check the complete answer to a find of all instances, which began then."""
        seen = set(found)
        for instance in self._model.instances():
            may = self._model.may_be_visible(instance, since, self._world.loop.time())
            visible = instance in seen
            check(visible in may, f"a find has {instance.sop_instance_uid} visible={visible}, may {may}")

    async def at_rest(self) -> None:
        """Check what holds when all faults are over, and upkeep has done all it could."""
        for version in self._model.versions.values():
            for site in self._world.sites:
                check(await site.holds(version), f"{site.name} does not hold {version.digest[:8]} at the end")
        for fact in self._model.facts.values():
            for site in self._world.sites:
                check(await site.holds_fact(fact), f"{site.name} does not hold {fact} at the end")
        await self._check_same()
        for site in self._world.sites:
            debts = [
                debt for debt in await site.debts() if not await self._is_gone(debt.instance, debt.digest)
            ]
            check(not debts, f"{site.name} notes debts at the end: {debts}")
        visible = await self._visible()
        for instance in self._model.instances():
            may = self._model.may_be_visible(instance, self._world.loop.time())
            shown = instance in visible
            check(shown in may, f"{instance.sop_instance_uid} is visible={shown} at the end, may {may}")
        await self._check_orders()

    async def _check_same(self) -> None:
        first, *others = self._world.sites
        any_gone = False
        for instance in self._model.instances():
            gone = await self._gone(instance)
            any_gone |= bool(gone)
            rows = await _rows(first, instance, gone)
            facts = set(await first.facts(instance))
            for site in others:
                check(
                    await _rows(site, instance, gone) == rows,
                    f"{first.name} and {site.name} differ in the versions of {instance.sop_instance_uid}",
                )
                check(
                    set(await site.facts(instance)) == facts,
                    f"{first.name} and {site.name} differ in the facts about {instance.sop_instance_uid}",
                )
        summaries = [summary async for summary in first.catalogue.studies()]
        for site in others:
            check(
                any_gone or [summary async for summary in site.catalogue.studies()] == summaries,
                f"{first.name} and {site.name} differ in their summaries",
            )

    async def _gone(self, instance: Instance) -> set[str]:
        """Return the versions that are gone: a row of them may be left at some of the sites."""
        digests = {
            row.version.digest for site in self._world.sites for row in await site.catalogue.rows_of(instance)
        }
        return {digest for digest in digests if await self._is_gone(instance, digest)}

    async def _is_gone(self, instance: Instance, digest: str) -> bool:
        """Whether nobody was told that it is kept, and no site has its bytes: its debts can never be paid."""
        if digest in self._model.versions or digest in self._model.facts:
            return False
        for site in self._world.sites:
            for row in await site.catalogue.rows_of(instance):
                if row.version.digest == digest and site.holds_bytes(row.version):
                    return False
            if any(fact.digest == digest for fact in await site.facts(instance)):
                return False
        return True

    async def _visible(self) -> set[Instance]:
        site = self._world.sites[0]
        return {
            instance
            for instance in self._model.instances()
            if await site.catalogue.rows_of(instance) and not is_hidden(await site.facts(instance))
        }

    async def _check_orders(self) -> None:
        """Check that of two versions the one that was sent first when the other's order was decided is newer.

        A version that is sent again may become the newer, as it is new to a site that lacked it; so may one
        whose row comes to a site long after it was sent.
        """
        stores = [operation for operation in self._model.operations if operation.kind is Kind.STORE]
        for instance in self._model.instances():
            rows = await self._world.sites[0].catalogue.rows_of(instance)
            times: dict[str, tuple[float, float]] = {}
            for digest in (row.version.digest for row in rows):
                sent = [operation for operation in stores if _digest(operation) == digest]
                times[digest] = (
                    min(operation.began for operation in sent),
                    max([*(operation.ended for operation in sent), self._world.ordered_at.get(digest, 0.0)]),
                )
            for newer, older in combinations([row.version.digest for row in rows], 2):
                if {newer, older} <= self._model.versions.keys():
                    check(
                        times[newer][1] >= times[older][0],
                        f"{older[:8]} was sent after {newer[:8]} had its order, and is not newer",
                    )

    async def counts(self, process: Process) -> None:
        """Check what finds say at each level when nothing fails any more."""
        visible = await self._visible()
        wanted = {
            Level.STUDY: {(i.study_instance_uid,) for i in visible},
            Level.SERIES: {(i.study_instance_uid, i.series_instance_uid) for i in visible},
            Level.IMAGE: {(i.study_instance_uid, i.series_instance_uid, i.sop_instance_uid) for i in visible},
        }
        for level, uids in wanted.items():
            async with aclosing(process.grid.find(Query(level), _ALL)) as finding:
                matches = [match async for match in finding]
            check({match.uid for match in matches} == uids, f"a find at {level} finds {len(matches)}: {uids}")
            for match in matches:
                below = sum(
                    (i.study_instance_uid, i.series_instance_uid, i.sop_instance_uid)[: len(match.uid)]
                    == match.uid
                    for i in visible
                )
                check(match.instances == below, f"{match.uid} has {below}, a find says {match.instances}")


def _digest(operation: Operation) -> str:
    assert operation.content is not None
    return operation.content.digest


async def _rows(site: Site, instance: Instance, gone: set[str]) -> list[tuple[str, int, object]]:
    rows = await site.catalogue.rows_of(instance)
    return [(row.version.digest, row.order, row.provenance) for row in rows if row.version.digest not in gone]
