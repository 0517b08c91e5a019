"""Each implementation of a catalogue, so that one suite holds all of them to the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cluster.nouns import SiteIdentity
from storage_node.catalogue.memory import MemoryCatalogue
from storage_node.catalogue.protocol import Catalogue
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue

IDENTITY = SiteIdentity("a", "7d3f4d1c-6c8e-4a3c-9a55-3a7d5f0f1b11", 1)


def _memory(_: Path) -> Catalogue:
    return MemoryCatalogue(IDENTITY.name, IDENTITY)


def _sqlite(folder: Path) -> Catalogue:
    file = folder / "catalogue.sqlite"
    SqliteCatalogue.create(file, IDENTITY)
    return SqliteCatalogue(IDENTITY.name, file, IDENTITY)


@pytest.fixture(params=[_memory, _sqlite], ids=["memory", "sqlite"])
def make(request: pytest.FixtureRequest) -> Callable[[Path], Catalogue]:
    made: Callable[[Path], Catalogue] = request.param
    return made


@pytest.fixture
async def catalogue(make: Callable[[Path], Catalogue], tmp_path: Path) -> AsyncIterator[Catalogue]:
    made = make(tmp_path)
    yield made
    await made.close()
