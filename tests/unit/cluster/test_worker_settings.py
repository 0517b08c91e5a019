from __future__ import annotations

import pytest
from pydantic import ValidationError

from cluster.settings import Settings


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::"])
def test_workers_listen_at_an_address_that_balancers_can_be_told(host: str) -> None:
    with pytest.raises(ValidationError, match="one address that balancers reach"):
        Settings.model_validate({"worker": {"host": host}})


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.7", "2001:db8::7", "worker.example"])
def test_any_single_address_will_do(host: str) -> None:
    assert Settings.model_validate({"worker": {"host": host}}).worker.host == host


def test_nobody_is_idle_at_once_while_workers_drain() -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"drain_idle_s": 0})
