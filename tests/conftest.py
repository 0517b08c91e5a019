"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.etcd import EtcdCluster, running_cluster


@pytest.fixture(scope="session")
def etcd_for_all() -> Iterator[EtcdCluster]:
    """One etcd cluster of three members, started when the first test asks for it.

    Who harms a member mends it afterwards (`EtcdCluster.mend`).
    """
    with running_cluster() as cluster:
        yield cluster
