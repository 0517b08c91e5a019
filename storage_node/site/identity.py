"""What says which site this is: a small JSON object in each site's objects."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

from cluster.nouns import SiteIdentity

IDENTITY_FILE: Final = "_site.json"
"""Its key. No listing shows it."""


def identity_content(identity: SiteIdentity) -> bytes:
    """Return what is stored."""
    return json.dumps(asdict(identity)).encode("ascii")


def read_identity(content: bytes) -> SiteIdentity | None:
    """Return the identity that was stored, or None for one that is damaged."""
    try:
        entries = json.loads(content)
        return SiteIdentity(str(entries["name"]), str(entries["site_id"]), int(entries["generation"]))
    except (ValueError, KeyError, TypeError):
        return None


def what_is_wrong(found: SiteIdentity | None, expected: SiteIdentity) -> str | None:
    """Say how an identity that was found (None: a damaged one) is not the expected; None when it is."""
    if found == expected:
        return None
    if found is None:
        return "is damaged: another was expected"
    return f"is of site {found.name}, {found.site_id}, {found.generation}: another was expected"
