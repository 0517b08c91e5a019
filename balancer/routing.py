"""Which workers an association is for: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.proxy_protocol import IPAddress
from cluster.settings import Route


def route_of(
    routes: Iterable[Route], *, called_ae: str | None, calling_ae: str | None, source: IPAddress
) -> Route | None:
    """Return the first route that fits.

    Parameters
    ----------
    routes : iterable of Route
        In the order of the settings.
    called_ae, calling_ae : str or None
        Without padding; None where they cannot be read, as TLS is passed through: then no route that names
        one fits.
    source : IPAddress
        Of the caller.

    Returns
    -------
    Route or None
        None when none fits: every worker may take the association.
    """
    return next((route for route in routes if _fits(route, called_ae, calling_ae, source)), None)


def is_in_pool(route: Route | None, labels: Mapping[str, str]) -> bool:
    """Return whether a worker with these labels is one of those that a route names."""
    return route is None or all(labels.get(label) == value for label, value in route.workers.items())


def _fits(route: Route, called_ae: str | None, calling_ae: str | None, source: IPAddress) -> bool:
    """Return whether all that a route asks for is so. An address is in no network of the other family."""
    return (
        route.called_ae in (None, called_ae)
        and route.calling_ae in (None, calling_ae)
        and (route.source is None or source in route.source)
    )
