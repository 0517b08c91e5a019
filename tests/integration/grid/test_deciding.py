"""What a person decides about patients, studies, series or instances reaches all that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest

from cluster.dicom.elements import Element, pack
from cluster.nouns import BLOCK_BYTES, FactKind, Instance
from cluster.settings import Deletion, Resend
from storage_node.catalogue.views import is_hidden, ruling
from storage_node.grid.record import FRESH_S
from storage_node.grid.write import NotEnoughSites
from storage_node.site.failing import Fault
from storage_node.upkeep.collection import Collection
from storage_node.upkeep.deciding import Decided, Part, decide, survey
from storage_node.upkeep.purging import Purging
from storage_node.upkeep.selecting import Selection, targets
from storage_node.upkeep.trash import trash
from storage_node.upkeep.verify import verify
from tests.integration.grid.cluster import NAMES, Cluster, arrival, cluster
from tests.integration.grid.upkeep import UPKEEP, Clock, lose

DELETED, REVIVED = FactKind.DELETED, FactKind.REVIVED
DAY = date(2026, 3, 1)


def image(study: str, series: str, number: int) -> Instance:
    return Instance(f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{number}")


async def put(c: Cluster, instance: Instance, patient: str, issuer: str = "", accession: str = "") -> None:
    values = {
        0x00080020: ("DA", "20260301"),
        0x00080050: ("SH", accession),
        0x00081030: ("LO", "Thorax ap"),
        0x00100010: ("PN", "Doe^Jane"),
        0x00100020: ("LO", patient),
        0x00100021: ("LO", issuer),
    }
    header = pack({tag: Element(vr, text.encode()) for tag, (vr, text) in values.items() if text})
    await c.grid.store(replace(arrival(1), instance=instance, header=header), [str(instance).encode()])


async def fill(c: Cluster) -> None:
    """Two studies of one patient, one of a namesake of another issuer, and one of somebody else."""
    for number in (1, 2):
        await put(c, image("1", "1", number), "P1", "X", accession="A1")
    await put(c, image("1", "2", 3), "P1", "X", accession="A1")
    await put(c, image("2", "1", 1), "P1", "X", accession="A2")
    await put(c, image("3", "1", 1), "P1", "Y", accession="A2")
    await put(c, image("4", "1", 1), "P2")


async def concerned(c: Cluster, selection: Selection, kind: FactKind = DELETED) -> list[Part]:
    chosen, _ = await targets(c.grid, selection)
    return [part async for part in survey(c.grid, chosen, kind)]


async def do(c: Cluster, kind: FactKind, selection: Selection) -> Decided:
    chosen, _ = await targets(c.grid, selection)
    return await decide(c.grid, chosen, kind, by="ann", reason="test", expected=1)


async def hidden(c: Cluster) -> set[str]:
    """SOP Instance UIDs that each site takes for hidden."""
    at = [
        {
            entry.instance.sop_instance_uid
            async for entry in c[name].inner.walk()
            if is_hidden(await c[name].inner.facts_of(entry.instance))
        }
        for name in NAMES
    ]
    assert at[0] == at[1] == at[2]
    return at[0]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(uids=["1.1"]), {"1.1.1.1", "1.1.1.2", "1.1.2.3"}),
        (Selection(uids=["1.1.1"]), {"1.1.1.1", "1.1.1.2"}),
        (Selection(uids=["1.1.1.2"]), {"1.1.1.2"}),
        (Selection(uids=["1.1.1.2", "1.1.1", "1.4"]), {"1.1.1.1", "1.1.1.2", "1.4.1.1"}),
        (Selection(patients=["P1^X"]), {"1.1.1.1", "1.1.1.2", "1.1.2.3", "1.2.1.1"}),
        (Selection(patients=["P1"]), {"1.1.1.1", "1.1.1.2", "1.1.2.3", "1.2.1.1", "1.3.1.1"}),
        (Selection(accession_numbers=["A2"]), {"1.2.1.1", "1.3.1.1"}),
        (Selection(patients=["P2"], accession_numbers=["A2"]), {"1.2.1.1", "1.3.1.1", "1.4.1.1"}),
    ],
)
async def test_what_is_named_is_deleted_and_nothing_else_and_taken_back(
    selection: Selection, expected: set[str]
) -> None:
    async with cluster() as c:
        await fill(c)
        before = await concerned(c, selection)
        assert sum(part.instances for part in before) == len(expected)
        assert await concerned(c, selection, REVIVED) == []
        outcome = await do(c, DELETED, selection)
        assert (outcome.decided, outcome.refused) == (len(expected), {})
        assert await hidden(c) == expected
        assert await concerned(c, selection) == []
        assert await concerned(c, selection, REVIVED) == before
        assert (await do(c, REVIVED, selection)).decided == len(expected)
        assert await hidden(c) == set()


async def test_what_is_concerned_is_told_as_people_know_it() -> None:
    async with cluster() as c:
        await fill(c)
        (part,) = await concerned(c, Selection(uids=["1.1"]))
        told = part.described
        assert (told.patient, told.study_date, told.description) == ("P1^X", "20260301", "Thorax ap")
        assert (part.series, part.instances) == (2, 3)
        assert part.size_bytes == sum(len(str(image("1", s, n))) for s, n in (("1", 1), ("1", 2), ("2", 3)))


async def test_what_stands_for_nothing_is_told() -> None:
    async with cluster() as c:
        await fill(c)
        selection = Selection(["1.1", "9.9"], ["P1^Z"], ["A9", "A1"])
        chosen, nothing = await targets(c.grid, selection)
        assert [target.subject for target in chosen] == [Instance("1.1", "", "")]
        assert nothing == ["9.9", "patient P1^Z", "accession number A9"]


async def test_what_is_refused_keeps_nothing_else_from_being_decided() -> None:
    async with cluster() as c:
        await fill(c)
        for name in ("a", "b"):
            c[name].script(
                lambda call: (
                    Fault.OBJECT
                    if call.method == "put" and call.key.startswith("_facts/1.1/1.1.2/")
                    else None
                )
            )
        outcome = await do(c, DELETED, Selection(["1.1"]))
        assert outcome.decided == 2
        assert len(outcome.refused) == 1


async def test_nobody_who_answers_is_an_error() -> None:
    async with cluster() as c:
        await fill(c)
        chosen, _ = await targets(c.grid, Selection(["1.1"]))
        for name in NAMES:
            await lose(c, name)
        with pytest.raises(NotEnoughSites):
            await decide(c.grid, chosen, DELETED, by="ann", reason="test", expected=1)
        with pytest.raises(NotEnoughSites):
            assert [of async for of in trash(c.grid)]


@pytest.mark.parametrize(
    ("subject", "kept"),
    [
        (image("1", "1", 1), {"1.1.1.1"}),
        (image("1", "1", 1).above[0], {"1.1.1.1", "1.1.1.2"}),
        (image("1", "1", 1).above[1], {"1.1.1.1", "1.1.1.2", "1.1.2.3"}),
    ],
)
async def test_what_is_under_retention_is_passed_over_until_it_is_released(
    subject: Instance, kept: set[str]
) -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await fill(c)
        until = (("until", (DAY + timedelta(days=1)).isoformat()),)
        fact = await c.grid.decide(subject, FactKind.RETAINED, by="bob", reason="law", details=until)
        parts = await concerned(c, Selection(["1.1"]))
        assert [(part.retained, part.kept, part.instances) for part in parts] == [
            ((fact,), len(kept), 3 - len(kept))
        ]
        await do(c, DELETED, Selection(["1.1"]))
        assert await hidden(c) == {"1.1.1.1", "1.1.1.2", "1.1.2.3"} - kept
        await c.grid.decide(subject, FactKind.RELEASED, by="bob", reason="law")
        await do(c, DELETED, Selection(["1.1"]))
        assert await hidden(c) == {"1.1.1.1", "1.1.1.2", "1.1.2.3"}


async def test_a_retention_ends_on_its_day() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await fill(c)
        until = (("until", (DAY + timedelta(days=1)).isoformat()),)
        await c.grid.decide(
            image("1", "1", 1).above[1], FactKind.RETAINED, by="bob", reason="law", details=until
        )
        assert (await do(c, DELETED, Selection(["1.1"]))).decided == 0
        clock.forward(days=1)
        assert (await do(c, DELETED, Selection(["1.1"]))).decided == 3


@pytest.mark.parametrize("resend", Resend)
async def test_what_was_purged_comes_back_as_long_as_bytes_of_it_are_left(resend: Resend) -> None:
    clock = Clock()
    async with cluster(now=clock, deletion=Deletion(resend=resend)) as c:
        await fill(c)
        await stream(c, image("1", "2", 4))
        await do(c, DELETED, Selection(["1.1"]))
        clock.forward(days=31)
        await Purging(c.grid, UPKEEP).run_once()
        collection = Collection(c.grid, UPKEEP)
        await collection.run_once()
        clock.forward(seconds=FRESH_S)
        (part,) = await concerned(c, Selection(["1.1"]), REVIVED)
        assert (part.instances, part.purged) == (0, 4)
        outcome = await do(c, REVIVED, Selection(["1.1.2"]))
        assert (outcome.decided, outcome.gone) == (2, 0)
        await collection.run_once()
        outcome = await do(c, REVIVED, Selection(["1.1.1"]))
        assert (outcome.decided, outcome.gone) == (0, 2)
        assert await hidden(c) == {"1.1.1.1", "1.1.1.2"}
        for _ in range(2):
            clock.forward(days=2)
            await collection.run_once()
        for instance in (image("1", "2", 3), image("1", "2", 4)):
            held = ruling(await c["a"].inner.facts_of(instance))
            assert held is not None
            assert (held.decided_by, held.reason) == ("ann", "test")
        await c.repair()
        found = await verify(c.grid, deep=True)
        assert found.complete
        assert found.purged == 2


async def stream(c: Cluster, instance: Instance) -> None:
    async with await c.grid.stream(instance) as stream:
        await stream.write([bytes(BLOCK_BYTES), b"end"])
        await stream.complete(replace(arrival(1), instance=instance))


async def list_trash(c: Cluster, after: str = "") -> Sequence[tuple[str, int, str, str]]:
    return [
        (of.study_instance_uid, of.instances, of.deleted_by, of.reason)
        async for of in trash(c.grid, after=after)
    ]


async def test_the_trash_tells_what_can_be_taken_back_and_until_when() -> None:
    clock = Clock()
    async with cluster(now=clock) as c:
        await fill(c)
        assert await list_trash(c) == []
        await do(c, DELETED, Selection(["1.1.1", "1.4"]))
        clock.forward(days=2)
        await do(c, DELETED, Selection(["1.1.2", "1.3"]))
        await do(c, REVIVED, Selection(["1.4"]))
        assert await list_trash(c) == [("1.1", 3, "ann", "test"), ("1.3", 1, "ann", "test")]
        assert await list_trash(c, after="1.1") == [("1.3", 1, "ann", "test")]
        first = await anext(trash(c.grid))
        assert (first.described.patient, first.series) == ("P1^X", 2)
        assert (first.deleted_at, first.until) == (clock(), clock() + timedelta(days=28))
        clock.forward(days=29)
        await Purging(c.grid, UPKEEP).run_once()
        assert await list_trash(c) == [("1.1", 1, "ann", "test"), ("1.3", 1, "ann", "test")]


@pytest.mark.parametrize("away", NAMES)
async def test_the_trash_is_whole_with_a_site_away(away: str) -> None:
    async with cluster() as c:
        await fill(c)
        await do(c, DELETED, Selection(["1.1"]))
        await lose(c, away)
        await do(c, DELETED, Selection(["1.2"]))
        assert [uid for uid, *_ in await list_trash(c)] == ["1.1", "1.2"]
        await c.heal()
        assert [uid for uid, *_ in await list_trash(c)] == ["1.1", "1.2"]
