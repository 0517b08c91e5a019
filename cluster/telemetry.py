"""Logs: events with fields, one line each, to standard error.

An event's name is `noun.verb` (`store.acknowledged`, `site.down`); its fields never hold a patient's name
or identifier. Metrics are prometheus-client's and stand at the top of the module that counts; their names
begin with `atria_`.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(process: str, *, verbose: bool = False) -> None:
    """Set up logging for this process: key=value on a terminal, JSON elsewhere.

    Parameters
    ----------
    process : str
        Name of the process in the cluster (`balancer`, `worker-1`), a field of every line.
    verbose : bool
        Whether lines of level debug are written.
    """
    on_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
