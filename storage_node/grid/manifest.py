"""The manifest: a small object that makes a streamed object a copy.

It is written after the object is durable, at a key that is named by the digest, and says all that a catalogue
needs to find and check the bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from cluster.nouns import BLOCK_BYTES, Instance, Provenance, Version

FORMAT = 1


def encode(version: Version, provenance: Provenance) -> bytes:
    """Return the manifest of a streamed version, as JSON."""
    entries = {
        **asdict(version),
        "format": FORMAT,
        "block_bytes": BLOCK_BYTES,
        "provenance": provenance.to_metadata(),
    }
    return json.dumps(entries, indent=1, sort_keys=True).encode("ascii")


def decode(content: bytes) -> tuple[Version, Provenance]:
    """Read what `encode` wrote.

    Raises
    ------
    ValueError
        It is no manifest of this format.
    """
    try:
        entries = json.loads(content)
        if (entries.pop("format"), entries.pop("block_bytes")) != (FORMAT, BLOCK_BYTES):
            raise ValueError("a manifest of another format")
        provenance = Provenance.from_metadata(entries.pop("provenance"))
        entries["instance"] = Instance(**entries["instance"])
        entries["block_digests"] = tuple(entries["block_digests"])
        return Version(**entries), provenance
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no manifest: {error!r}") from error
