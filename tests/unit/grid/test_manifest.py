from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.nouns import Instance, Provenance, Version
from storage_node.grid import manifest

PROVENANCE = Provenance(datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC), "CT1", "ATRIA", "10.0.0.1:4242")
VERSION = Version(
    Instance("1.2", "1.2.3", "é/.."),
    "ab" * 32,
    "k.dcm",
    9 << 20,
    330,
    "1.2.840",
    "1.2.1",
    ("cd" * 32, "ef" * 32),
)


def test_what_is_written_is_read_back() -> None:
    assert manifest.decode(manifest.encode(VERSION, PROVENANCE)) == (VERSION, PROVENANCE)


@given(
    st.one_of(st.binary(), st.sampled_from([b"{}", b"[]", b"null", b'{"format":1,"block_bytes":8388608}']))
)
def test_anything_else_is_no_manifest(content: bytes) -> None:
    with pytest.raises(ValueError):
        manifest.decode(content)


def test_another_format_is_refused() -> None:
    content = manifest.encode(VERSION, PROVENANCE).replace(b'"format": 1', b'"format": 2')
    with pytest.raises(ValueError, match="format"):
        manifest.decode(content)
