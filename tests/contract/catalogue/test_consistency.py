"""What every catalogue derives is found to follow from its rows and facts, whatever was decided."""

from __future__ import annotations

import pytest

from cluster.nouns import Fact, FactKind, Instance
from storage_node.catalogue.consistency import is_consistent
from storage_node.catalogue.protocol import Catalogue
from tests.contract.catalogue.conftest import IDENTITY
from tests.contract.catalogue.rows import add, fact, row

STUDY = Instance("1.2.3", "", "")


@pytest.mark.parametrize(
    "decided",
    [
        [],
        [fact(row())],
        [fact(STUDY, kind=FactKind.CORRECTED, details=(("00081030", "corrected"), ("00100020", "P2")))],
        [fact(Instance.patient("P1\n"), kind=FactKind.CORRECTED, details=(("00100020", "P2"),))],
        [
            fact(Instance.patient("P1\n"), kind=FactKind.CORRECTED, details=(("00100020", "P2"),)),
            fact(Instance.patient("P2\n"), kind=FactKind.CORRECTED, details=(("00100010", "Müller"),)),
        ],
        [fact(Instance("1.2.3", "1.2.3.1", ""), kind=FactKind.CORRECTED, details=(("00080060", "MR"),))],
    ],
)
async def test_what_follows_is_consistent(catalogue: Catalogue, decided: list[Fact]) -> None:
    for added in (row(), row(content="another", minute=1), row("1.2.4", "1.2.4.1", "1.2.4.1.1")):
        await add(catalogue, added)
    for one in decided:
        await catalogue.decide(one)
    async for summary in catalogue.studies():
        assert await is_consistent(catalogue, summary, IDENTITY), summary
