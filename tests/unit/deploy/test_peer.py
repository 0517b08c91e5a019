from __future__ import annotations

import pytest

from deploy.client.peer import parse_address
from deploy.errors import UserError


@pytest.mark.parametrize(
    ("text", "address"),
    [("pacs:104", ("pacs", 104)), ("127.0.0.1:11112", ("127.0.0.1", 11112)), ("[::1]:104", ("::1", 104))],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["pacs", ":104", "pacs:", "pacs:0", "pacs:65536", "pacs:dicom", "pacs:-1", "pacs:\u0661"]
)
def test_what_is_no_address_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(UserError, match="expected HOST:PORT"):
        parse_address(text)
