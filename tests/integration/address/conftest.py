from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.address.network import Network, missing, network


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def net(request: pytest.FixtureRequest) -> Iterator[Network]:
    """Hosts, for each version of IP."""
    if reason := missing():
        pytest.skip(reason)
    if request.param == 6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("needs IPv6")
    with network(request.param) as found:
        yield found
