"""What is matched in headers is decided by the header that stands for an entity in the union."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.dicom.elements import Element, pack, unpack
from cluster.nouns import Level, SiteIdentity
from storage_node.catalogue.keys import OneOf
from storage_node.catalogue.levels import attribute_of
from storage_node.catalogue.matching import Query
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Row
from storage_node.grid.find import Finding
from tests.contract.catalogue.rows import add, row

INSTITUTION = 0x00080080


def _of(institution: str, **values: object) -> Row:
    added = row(**values)  # type: ignore[arg-type]
    header = {**unpack(added.header), INSTITUTION: Element("LO", institution.encode())}
    return replace(added, header=pack(header))


@pytest.mark.parametrize(("institution", "found"), [("First", 1), ("Second", 0)])
async def test_a_series_is_matched_by_what_came_first_of_it_at_any_site(institution: str, found: int) -> None:
    catalogues = []
    for name, held in (("a", _of("First", sop="1", minute=0)), ("b", _of("Second", sop="2", minute=1))):
        catalogue = MemoryCatalogue(name, SiteIdentity(name, name, 1))
        await add(catalogue, held)
        catalogues.append(catalogue)
    attribute = attribute_of(INSTITUTION)
    assert attribute is not None
    query = Query(Level.SERIES, residual=(OneOf(attribute, (institution,)),))
    matches = [match async for match in Finding(catalogues, query, 10, needed=2)]
    assert len(matches) == found
    assert all(match.instances == 2 for match in matches)
