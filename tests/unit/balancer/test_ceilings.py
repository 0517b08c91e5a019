from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

import pytest

from balancer.caller import Caller
from balancer.ceilings import Ceilings
from cluster.coordination.registry import Address, Load, Member, Share
from cluster.settings import Limits

CT = Caller(ipaddress.ip_address("10.0.0.1"), "ATRIA", "CT")
MR = Caller(ipaddress.ip_address("10.0.0.2"), "ATRIA", "MR")
UNREAD = Caller(ipaddress.ip_address("10.0.0.1"))


def limits(**fields: int) -> Limits:
    return Limits.model_validate(fields)


def worker(name: str, *shares: Share) -> Member:
    return Member(
        kind="worker",
        name=name,
        http=Address("127.0.0.1", 80),
        pid=1,
        version="0",
        started_at=datetime(2024, 1, 1, tzinfo=UTC),
        load=Load(sum(share.associations for share in shares), shares),
    )


def reached(ceilings: Ceilings, caller: Caller, **fields: int) -> str | None:
    found = ceilings.reached(limits(**fields), caller)
    return found.ceiling if found else None


@pytest.mark.parametrize(
    ("limit", "others"),
    [
        ("balancer_associations", {"CT": 2, "MR": 2}),
        ("calling_ae_associations", {"CT": 2, "MR": 1}),
        ("source_associations", {"CT": 2, "MR": 1}),
    ],
)
def test_each_ceiling_holds_for_those_that_it_counts(limit: str, others: dict[str, int]) -> None:
    ceilings = Ceilings("balancer-1")
    ceilings.enter(CT)
    ceilings.enter(CT)
    for caller in (CT, MR):
        counted = others[str(caller.calling_ae)]
        assert reached(ceilings, caller, **{limit: 2}) == (limit if counted >= 2 else None)
    ceilings.leave(CT)
    assert reached(ceilings, CT, **{limit: 2}) is None


def test_there_is_no_ceiling_that_was_not_set() -> None:
    ceilings = Ceilings("balancer-1")
    for _ in range(500):
        ceilings.enter(CT)
    assert reached(ceilings, CT) is None


def test_what_others_relay_counts_as_workers_report_it() -> None:
    ceilings = Ceilings("balancer-2")
    ceilings.heed(
        [
            worker("a", Share("balancer-1", "CT", "10.0.0.1", 2), Share("balancer-1", "MR", "10.0.0.2", 1)),
            worker("b", Share("balancer-1", "CT", "10.0.0.9", 1)),
        ]
    )
    ceilings.enter(CT)
    assert reached(ceilings, CT, calling_ae_associations=4) == "calling_ae_associations"
    assert reached(ceilings, CT, calling_ae_associations=5) is None
    assert reached(ceilings, CT, source_associations=3) == "source_associations"
    assert reached(ceilings, CT, source_associations=4) is None
    assert reached(ceilings, MR, balancer_associations=5) == "balancer_associations"
    assert reached(ceilings, MR, balancer_associations=6) is None


def test_what_workers_report_of_our_own_is_not_counted_twice() -> None:
    ceilings = Ceilings("balancer-1")
    ceilings.enter(CT)
    ceilings.heed([worker("a", Share("balancer-1", "CT", "10.0.0.1", 1))])
    assert reached(ceilings, CT, balancer_associations=2, calling_ae_associations=2) is None


def test_a_report_stands_in_place_of_the_one_before() -> None:
    ceilings = Ceilings("balancer-2")
    for associations in (3, 1):
        ceilings.heed([worker("a", Share("balancer-1", "CT", "10.0.0.1", associations))])
    assert reached(ceilings, CT, calling_ae_associations=2) is None
    ceilings.heed([])
    assert reached(ceilings, CT, calling_ae_associations=1) is None


def test_who_cannot_be_named_counts_by_source_and_among_all() -> None:
    ceilings = Ceilings("balancer-1")
    ceilings.enter(UNREAD)
    assert reached(ceilings, UNREAD, calling_ae_associations=1) is None
    assert reached(ceilings, CT, source_associations=1) == "source_associations"
    assert reached(ceilings, MR, balancer_associations=1) == "balancer_associations"


def test_it_says_what_is_reached() -> None:
    ceilings = Ceilings("balancer-1")
    ceilings.enter(CT)
    found = ceilings.reached(limits(calling_ae_associations=1), CT)
    assert str(found) == "1 associations, limits.calling_ae_associations allows 1"


def test_the_status_says_who_has_how_many_and_forgets_who_has_none() -> None:
    ceilings = Ceilings("balancer-2")
    ceilings.heed([worker("a", Share("balancer-1", "CT", "10.0.0.1", 2))])
    ceilings.enter(CT)
    ceilings.enter(MR)
    ceilings.leave(MR)
    assert ceilings.status(limits(calling_ae_associations=9)) == {
        "balancer_associations": {"limit": 1000, "here": 1, "elsewhere": 2},
        "calling_ae_associations": {"limit": 9, "associations": {"CT": 3}},
        "source_associations": {"limit": None, "associations": {"10.0.0.1": 3}},
    }
