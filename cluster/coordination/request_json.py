"""A request as it is written down."""

from __future__ import annotations

import json
from datetime import datetime

from cluster.coordination.requests import Request, Wish


def encode(request: Request) -> bytes:
    """Return a request as JSON."""
    started_at = request.started_at and request.started_at.isoformat()
    return json.dumps({"wish": request.wish, "started_at": started_at}).encode()


def decode(data: bytes) -> Request:
    """Return the request that was encoded; what a later release says besides is passed over.

    Raises
    ------
    ValueError
        It is none.
    """
    values = json.loads(data)
    if not isinstance(values, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004  whoever wrote it, the value is wrong
    started_at = values.get("started_at")
    return Request(
        Wish(str(values.get("wish"))), None if started_at is None else datetime.fromisoformat(str(started_at))
    )
