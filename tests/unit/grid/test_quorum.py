from __future__ import annotations

from itertools import combinations

import pytest

from storage_node.grid.quorum import Quorum

QUORUMS = [Quorum(sites, write) for sites in range(1, 8) for write in range(sites // 2 + 1, sites + 1)]


@pytest.mark.parametrize("quorum", QUORUMS, ids=str)
def test_whatever_sites_are_asked_one_holds_what_was_acknowledged(quorum: Quorum) -> None:
    sites = range(quorum.sites)
    for written in combinations(sites, quorum.write):
        assert all(set(written) & set(asked) for asked in combinations(sites, quorum.read))
        assert all(set(written) & set(other) for other in combinations(sites, quorum.write))


@pytest.mark.parametrize("quorum", QUORUMS, ids=str)
def test_one_site_fewer_would_not_do(quorum: Quorum) -> None:
    sites = range(quorum.sites)
    missed = (
        not set(written) & set(asked)
        for written in combinations(sites, quorum.write)
        for asked in combinations(sites, quorum.read - 1)
    )
    assert any(missed)


@pytest.mark.parametrize(("sites", "write"), [(3, 1), (4, 2), (3, 4), (2, 1), (0, 0)])
def test_what_could_lose_a_write_is_refused(sites: int, write: int) -> None:
    with pytest.raises(ValueError):
        Quorum(sites, write)
