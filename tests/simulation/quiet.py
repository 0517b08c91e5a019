"""Logs go nowhere, but a fault that the shipped code logs instead of raising it is the history's fault."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, NoReturn

import structlog


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Have structlog say nothing for a while; yield what it was told with an exception."""
    before = structlog.get_config()
    faults: list[str] = []

    def take(_: object, __: str, event: MutableMapping[str, Any]) -> NoReturn:
        if "exception" in event:
            faults.append(f"{event['event']}: {event['exception']}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.processors.format_exc_info, take],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    try:
        yield faults
    finally:
        structlog.configure(**before)
