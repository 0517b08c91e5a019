from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.routing import is_in_pool, route_of
from cluster.settings import Route

INSIDE = ipaddress.ip_address("10.1.2.3")
titles = st.sampled_from(["CT", "MR", "US"])
labels = st.dictionaries(st.sampled_from(["site", "modality"]), st.sampled_from(["a", "b"]))


def route(**fields: object) -> Route:
    return Route.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({}, True),
        ({"called_ae": "ATRIA"}, True),
        ({"called_ae": "OTHER"}, False),
        ({"calling_ae": "CT"}, True),
        ({"calling_ae": "ct"}, False),
        ({"source": "10.1.0.0/16"}, True),
        ({"source": "10.2.0.0/16"}, False),
        ({"source": "::/0"}, False),
        ({"called_ae": "ATRIA", "calling_ae": "CT", "source": "10.1.2.3/32"}, True),
        ({"called_ae": "ATRIA", "calling_ae": "MR", "source": "10.1.2.3/32"}, False),
    ],
)
def test_a_route_fits_when_all_that_it_names_is_so(fields: dict[str, object], fits: bool) -> None:
    found = route_of([route(**fields)], called_ae="ATRIA", calling_ae="CT", source=INSIDE)
    assert (found is not None) == fits


def test_an_ipv6_network_holds_ipv6_callers() -> None:
    source = ipaddress.ip_address("2001:db8::7")
    assert route_of([route(source="2001:db8::/32")], called_ae="A", calling_ae="B", source=source)
    assert not route_of([route(source="0.0.0.0/0")], called_ae="A", calling_ae="B", source=source)


def test_what_cannot_be_read_fits_no_route_that_names_it() -> None:
    by_ae, by_source = route(called_ae="ATRIA"), route(source="10.0.0.0/8")
    assert route_of([by_ae, by_source], called_ae=None, calling_ae=None, source=INSIDE) is by_source


@given(
    st.lists(st.builds(Route, calling_ae=st.none() | titles, called_ae=st.none() | titles)), titles, titles
)
def test_it_is_the_first_that_fits(routes: list[Route], called: str, calling: str) -> None:
    found = route_of(routes, called_ae=called, calling_ae=calling, source=INSIDE)
    fitting = [r for r in routes if r.called_ae in (None, called) and r.calling_ae in (None, calling)]
    assert found is (fitting[0] if fitting else None)


@given(labels, labels)
def test_a_worker_is_in_the_pool_when_every_label_of_the_route_is_equal(
    wanted: dict[str, str], own: dict[str, str]
) -> None:
    assert is_in_pool(Route(workers=wanted), own) == (wanted.items() <= own.items())


def test_without_a_route_every_worker_is() -> None:
    assert is_in_pool(None, {})
