"""One PostgreSQL server for all of these tests, and others of their own for those that end them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.postgresql import Databases, running_server


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    with running_server() as server:
        yield Databases(server)


@pytest.fixture
def own() -> Iterator[Databases]:
    """A server that may be killed."""
    with running_server() as server:
        yield Databases(server)
