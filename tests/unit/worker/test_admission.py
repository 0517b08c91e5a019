from __future__ import annotations

from ipaddress import ip_address

import pytest

from cluster.settings import Settings
from storage_node.worker import admission


@pytest.mark.parametrize(
    ("settings", "address", "admitted"),
    [
        ({}, "127.0.0.1", True),
        ({}, "127.4.5.6", True),
        ({}, "::1", True),
        ({}, "192.0.2.7", False),
        ({}, "::ffff:192.0.2.7", False),
        ({"worker": {"balancers": ["192.0.2.0/24"]}}, "192.0.2.7", True),
        ({"worker": {"balancers": ["192.0.2.0/24"]}}, "192.0.3.7", False),
        ({"worker": {"balancers": ["192.0.2.0/24"]}}, "2001:db8::1", False),
        ({"worker": {"balancers": []}, "dicom": {"host": "localhost"}}, "127.0.0.1", False),
        ({"dicom": {"host": "192.0.2.9"}}, "192.0.2.9", True),
        ({"dicom": {"host": "192.0.2.9"}}, "192.0.2.8", False),
        ({"dicom": {"host": "0.0.0.0"}}, "192.0.2.9", False),
        ({"dicom": {"host": "::"}}, "2001:db8::1", False),
        ({"dicom": {"host": "atria.example"}}, "192.0.2.9", False),
    ],
)
def test_balancers_may_call_and_nobody_else(
    settings: dict[str, object], address: str, admitted: bool
) -> None:
    assert admission(Settings.model_validate(settings))(ip_address(address)) is admitted
