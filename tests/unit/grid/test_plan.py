"""The plan, driven against a model of the sites that does to each step what chance says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_node.grid.plan import (
    Acknowledge,
    AddRows,
    NoteDebts,
    PutObjects,
    Refuse,
    Step,
    Wait,
    WritePlan,
)
from storage_node.grid.quorum import Quorum

ABC = ("a", "b", "c")
W2 = Quorum(3, 2)


@dataclass
class Disk:
    """What is durable at one site, whatever the plan was told."""

    object: bool = False
    order: int | None = None
    debts: set[str] = field(default_factory=set)


def check_acknowledged(step: Acknowledge, disks: dict[str, Disk], quorum: Quorum) -> None:
    orders = {disks[site].order for site in step.copies}
    assert all(disks[site].object for site in step.copies)
    assert len(step.copies) >= quorum.write
    assert orders == {step.order}
    assert set(step.copies) | set(step.owed) == set(disks)
    for site in step.owed:
        assert sum(site in disk.debts for disk in disks.values()) >= quorum.write, site


class Model:
    """Sites that do what they are asked sooner or later, or not; and that may do it and fail to say so."""

    def __init__(
        self, quorum: Quorum, tried: list[str], draw: Callable[[st.SearchStrategy[int]], int]
    ) -> None:
        self.quorum = quorum
        self.names = tuple("abcdefg"[: quorum.sites])
        self.disks = {name: Disk() for name in self.names}
        self.plan = WritePlan(self.names, tried, quorum)
        self.draw = draw
        self.under_way: list[Callable[[], None]] = []

    def run(self) -> Step:
        for _ in range(500):
            step = self.plan.next_step()
            match step:
                case Acknowledge():
                    check_acknowledged(step, self.disks, self.quorum)
                    return step
                case Refuse(answered):
                    assert answered < self.quorum.write
                    return step
                case Wait(grace):
                    self.wait(grace=grace)
                case PutObjects(sites):
                    self.under_way += [self.put(site) for site in sites]
                case AddRows(sites, owed, order):
                    self.under_way += [self.add(site, owed, order) for site in sites]
                case NoteDebts(sites, owed):
                    self.under_way += [self.note(site, owed) for site in sites]
        raise AssertionError("the plan comes to no end")

    def wait(self, *, grace: bool) -> None:
        if grace and (not self.under_way or self.draw(st.integers(0, 2)) == 0):
            self.plan.grace_over()
            return
        assert self.under_way, "the plan waits for nothing"
        self.under_way.pop(self.draw(st.integers(0, len(self.under_way) - 1)))()

    def outcome(
        self, do: Callable[[], None], done: Callable[[], object], failed: Callable[[], object]
    ) -> None:
        happens = self.draw(st.integers(0, 5))
        if happens != 0:
            do()
        (failed if happens <= 1 else done)()

    def put(self, site: str) -> Callable[[], None]:
        def do() -> None:
            self.disks[site].object = True

        return lambda: self.outcome(
            do, lambda: self.plan.object_done(site), lambda: self.plan.object_failed(site)
        )

    def add(self, site: str, owed: tuple[str, ...], order: int) -> Callable[[], None]:
        assert self.disks[site].object, "a row without its object"
        disk = self.disks[site]

        def do() -> None:
            other = self.draw(st.integers(0, 2)) if disk.order is None else 0
            disk.order = max(disk.order or 0, order, other)
            disk.debts.update(owed)

        return lambda: self.outcome(
            do, lambda: self.plan.row_done(site, disk.order or 0), lambda: self.plan.row_failed(site)
        )

    def note(self, site: str, owed: tuple[str, ...]) -> Callable[[], None]:
        return lambda: self.outcome(
            lambda: self.disks[site].debts.update(owed),
            lambda: self.plan.debts_done(site),
            lambda: self.plan.debts_failed(site),
        )


@given(st.data())
def test_success_is_said_only_of_what_is_durable(data: st.DataObject) -> None:
    sites = data.draw(st.integers(1, 5))
    quorum = Quorum(sites, data.draw(st.integers(sites // 2 + 1, sites)))
    names = "abcdefg"[:sites]
    tried = data.draw(st.lists(st.sampled_from(names), unique=True).map(sorted))
    Model(quorum, tried, data.draw).run()


def start() -> WritePlan:
    plan = WritePlan(ABC, ABC, W2)
    assert plan.next_step() == PutObjects(ABC)
    assert plan.next_step() == Wait(grace=False)
    return plan


def with_objects(*sites: str) -> WritePlan:
    plan = start()
    for site in ABC:
        if site in sites:
            plan.object_done(site)
        else:
            plan.object_failed(site)
    return plan


def test_the_whole_way_when_all_is_well() -> None:
    plan = with_objects(*ABC)
    assert plan.next_step() == AddRows(ABC, (), 0)
    for site in ABC:
        plan.row_done(site, 3)
    assert plan.next_step() == Acknowledge(ABC, (), 3)


def test_stragglers_are_waited_for_only_once_there_is_enough() -> None:
    plan = start()
    plan.object_done("a")
    assert plan.next_step() == Wait(grace=False)
    plan.object_done("c")
    assert plan.next_step() == Wait(grace=True)
    plan.grace_over()
    assert plan.next_step() == AddRows(("a", "c"), ("b",), 0)
    assert not plan.object_done("b")


def test_an_object_alone_is_no_copy() -> None:
    plan = with_objects(*ABC)
    plan.next_step()
    plan.row_done("a", 0)
    plan.row_failed("b")
    plan.row_failed("c")
    assert plan.next_step() == Refuse(1)


def test_a_site_whose_row_failed_is_noted_as_a_debt_before_success() -> None:
    plan = with_objects(*ABC)
    plan.next_step()
    plan.row_done("a", 0)
    plan.row_done("b", 0)
    plan.row_failed("c")
    assert plan.next_step() == NoteDebts(("a", "b"), ("c",))
    plan.debts_done("a")
    assert plan.next_step() == Wait(grace=False)
    plan.debts_done("b")
    assert plan.next_step() == Acknowledge(("a", "b"), ("c",), 0)


def test_a_debt_that_too_few_have_noted_is_no_success() -> None:
    plan = with_objects(*ABC)
    plan.next_step()
    plan.row_done("a", 0)
    plan.row_done("b", 0)
    plan.row_failed("c")
    plan.next_step()
    plan.debts_done("a")
    plan.debts_failed("b")
    assert plan.next_step() == Refuse(1)


def test_debts_known_before_the_rows_go_with_them() -> None:
    plan = with_objects("b", "c")
    assert plan.next_step() == AddRows(("b", "c"), ("a",), 0)
    plan.row_done("b", 0)
    plan.row_done("c", 0)
    assert plan.next_step() == Acknowledge(("b", "c"), ("a",), 0)


def test_the_highest_order_is_given_to_all() -> None:
    plan = with_objects(*ABC)
    plan.next_step()
    for site, order in zip(ABC, (1, 4, 2), strict=True):
        plan.row_done(site, order)
    assert plan.next_step() == AddRows(("a", "c"), (), 4)
    plan.row_done("a", 4)
    plan.row_done("c", 4)
    assert plan.next_step() == Acknowledge(ABC, (), 4)


def test_a_row_that_comes_late_counts_no_more() -> None:
    plan = with_objects(*ABC)
    plan.next_step()
    plan.row_done("a", 0)
    plan.row_done("b", 0)
    assert plan.next_step() == Wait(grace=True)
    plan.grace_over()
    assert plan.next_step() == NoteDebts(("a", "b"), ("c",))
    assert not plan.row_done("c", 7)
    plan.debts_done("a")
    plan.debts_done("b")
    assert plan.next_step() == Acknowledge(("a", "b"), ("c",), 0)


def test_what_fails_is_refused_when_the_others_had_their_grace_to_be_counted() -> None:
    plan = start()
    plan.object_failed("a")
    plan.object_failed("b")
    assert plan.next_step() == Wait(grace=True)
    plan.object_done("c")
    assert plan.next_step() == Refuse(1)
    plan = start()
    plan.object_failed("a")
    plan.object_failed("b")
    assert plan.next_step() == Wait(grace=True)
    plan.grace_over()
    assert plan.next_step() == Refuse(0)


@pytest.mark.parametrize("tried", [(), ("b",)])
def test_too_few_sites_are_not_even_tried(tried: tuple[str, ...]) -> None:
    assert WritePlan(ABC, tried, W2).next_step() == Refuse(len(tried))
