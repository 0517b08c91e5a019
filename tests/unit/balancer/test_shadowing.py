from __future__ import annotations

import ipaddress
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.routing import route_of
from balancer.shadowing import shadowed
from cluster.settings import Route

TITLES = (None, "CT", "MR")
NETWORKS = (
    None,
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "10.0.0.0/8",
    "10.0.0.0/30",
    "10.0.0.0/31",
    "10.0.0.2/31",
    "::/0",
    "::/1",
    "8000::/1",
)
CALLERS = [
    ipaddress.ip_address(text)
    for text in ("10.0.0.0", "10.0.0.2", "10.0.0.4", "1.1.1.1", "200.0.0.1", "::1", "fd00::1")
]
"""One from each part into which those networks divide all addresses."""


def routes(*fields: dict[str, object]) -> list[Route]:
    return [Route.model_validate(one) for one in fields]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], {}),
        ([{}], {}),
        ([{}, {"calling_ae": "CT"}], {1: (0,)}),
        ([{"calling_ae": "CT"}, {}], {}),
        ([{"calling_ae": "CT"}, {"calling_ae": "MR"}, {"calling_ae": "CT", "source": "::/0"}], {2: (0,)}),
        ([{"source": "10.0.0.0/8"}, {"source": "10.1.0.0/16"}, {"source": "11.0.0.0/8"}], {1: (0,)}),
        ([{"source": "10.0.0.0/9"}, {"source": "10.128.0.0/9"}, {"source": "10.0.0.0/8"}], {2: (0, 1)}),
        ([{"source": "0.0.0.0/0"}, {"calling_ae": "CT"}], {}),
        ([{"source": "0.0.0.0/0"}, {"source": "::/0"}, {"calling_ae": "CT"}], {2: (0, 1)}),
        ([{"called_ae": "CT"}, {"called_ae": "MR"}, {}], {}),
    ],
)
def test_a_route_is_shadowed_where_those_before_it_take_all_of_its(
    fields: list[dict[str, object]], expected: dict[int, tuple[int, ...]]
) -> None:
    assert shadowed(routes(*fields)) == expected


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "called_ae": st.sampled_from(TITLES),
                "calling_ae": st.sampled_from(TITLES),
                "source": st.sampled_from(NETWORKS),
            }
        ),
        max_size=6,
    )
)
def test_those_are_shadowed_that_no_association_takes(fields: list[dict[str, object]]) -> None:
    among = routes(*fields)
    calls = product(("CT", "MR", "OTHER"), ("CT", "MR", "OTHER"), CALLERS)
    taken = [
        route_of(among, called_ae=called, calling_ae=calling, source=source)
        for called, calling, source in calls
    ]
    never = {index for index, route in enumerate(among) if not any(route is one for one in taken)}
    assert shadowed(among).keys() == never
