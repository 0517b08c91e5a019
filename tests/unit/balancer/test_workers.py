from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from balancer.search import Search
from balancer.worker import Worker
from balancer.workers import FAILING_REST_S, REFUSED_REST_S, Workers
from cluster.coordination.registry import Address, Load, Member, Share
from cluster.settings import Route

STARTED_AT = datetime(2024, 1, 1, tzinfo=UTC)
REFUSED = ConnectionRefusedError("refused")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def member(name: str, *, restarts: int = 0, port: int | None = 104, **fields: Any) -> Member:
    return Member(
        kind="worker",
        name=name,
        http=Address("127.0.0.1", 80),
        pid=1,
        version="0",
        started_at=STARTED_AT + timedelta(seconds=restarts),
        dicom=None if port is None else Address("127.0.0.1", port),
        **fields,
    )


def known(*members: str | Member, now: Clock | None = None) -> Workers:
    workers = Workers("balancer-1", now or Clock(), Random(1))
    workers.update([found if isinstance(found, Member) else member(found) for found in members])
    return workers


def pick(workers: Workers, search: Search | None = None, *, again: bool = False) -> Worker:
    worker = workers.pick(search or Search(), again=again)
    assert worker is not None
    return worker


def only(workers: Workers, name: str) -> Worker:
    worker = next(worker for worker in workers if worker.name == name)
    search = Search(Route(workers={"name": name}, only=True))
    worker.labels["name"] = name
    assert pick(workers, search) is worker
    return worker


def fail(workers: Workers, name: str, error: OSError = REFUSED, search: Search | None = None) -> Worker:
    worker = only(workers, name)
    workers.failed(worker, search or Search(), error)
    workers.leave(worker, served=False)
    return worker


def reject(workers: Workers, search: Search) -> Worker:
    worker = pick(workers, search)
    workers.rejected(worker, search)
    workers.leave(worker, served=False)
    return worker


def test_equals_take_turns() -> None:
    workers = known("a", "b")
    names = []
    for _ in range(6):
        worker = pick(workers)
        names.append(worker.name)
        workers.leave(worker, served=True)
    assert names == ["a", "b"] * 3


def test_short_associations_are_spread_by_weight() -> None:
    workers = known("a", member("b", weight=3))
    names = []
    for _ in range(8):
        worker = pick(workers)
        names.append(worker.name)
        workers.leave(worker, served=True)
    assert names.count("b") == 6


def test_one_that_was_away_is_not_given_all_that_it_missed() -> None:
    clock = Clock()
    workers = known("a", "b", now=clock)
    fail(workers, "a")
    for _ in range(50):
        workers.leave(pick(workers), served=True)
    clock.now_s += FAILING_REST_S
    names = []
    for _ in range(6):
        worker = pick(workers)
        names.append(worker.name)
        workers.leave(worker, served=True)
    assert names.count("b") >= 2


def test_associations_offered_at_once_are_spread() -> None:
    workers = known("a", "b")
    assert sorted(pick(workers).name for _ in range(4)) == ["a", "a", "b", "b"]
    assert workers.associations == 4


def test_a_route_leads_to_its_pool_and_beyond_it_only_if_it_may() -> None:
    labelled = member("a", labels=(("site", "a"), ("modality", "ct")), capacity=1)
    workers = known(labelled, "b")
    to_a = Route(workers={"site": "a"})
    assert pick(workers, Search(to_a)).name == "a"
    assert workers.pick(Search(Route(workers={"site": "a"}, only=True))) is None
    assert pick(workers, Search(to_a)).name == "b"


def test_a_worker_at_its_ceiling_is_not_chosen() -> None:
    workers = known(member("a", capacity=2))
    first, _ = pick(workers), pick(workers)
    assert workers.pick(Search()) is None
    workers.leave(first, served=True)
    pick(workers)


def test_there_is_room_where_one_of_them_takes_more() -> None:
    assert not known().have_room()
    workers = known(member("a", draining=True), member("b", capacity=1))
    assert workers.have_room()
    pick(workers)
    assert not workers.have_room()


def test_what_other_balancers_have_at_a_worker_counts_and_our_own_is_not_counted_twice() -> None:
    busy = member(
        "a",
        capacity=3,
        load=Load(3, (Share("balancer-1", "CT", "10.0.0.1", 1), Share("balancer-2", "CT", "10.0.0.1", 2))),
    )
    workers = known("a")
    pick(workers)
    workers.update([busy])
    assert workers.pick(Search()) is None
    workers.update([replace(busy, load=Load(1, busy.load.shares[:1]))])
    pick(workers)


def test_a_worker_that_comes_back_has_what_it_had() -> None:
    here = member("a", capacity=2)
    workers = known(here)
    held = pick(workers)
    workers.update([])
    workers.update([])
    assert workers.pick(Search()) is None
    workers.update([here])
    assert [worker.associations for worker in workers] == [1]
    pick(workers)
    assert workers.pick(Search()) is None
    workers.leave(held, served=True)
    pick(workers)


def test_a_worker_that_was_started_anew_meanwhile_has_nothing() -> None:
    workers = known(member("a", capacity=1))
    pick(workers)
    workers.update([])
    workers.update([member("a", capacity=1, restarts=1)])
    assert [worker.associations for worker in workers] == [0]


def test_a_draining_worker_is_given_nothing() -> None:
    workers = known(member("a", draining=True))
    assert workers.pick(Search()) is None


def test_who_refused_is_not_asked_again_for_this_association_at_once() -> None:
    workers = known("a", "b")
    search = Search()
    first, second = reject(workers, search), reject(workers, search)
    assert {first.name, second.name} == {"a", "b"}
    assert workers.pick(search) is None
    assert workers.pick(search, again=True) is None


def test_a_worker_that_said_it_is_full_is_asked_by_nobody_until_it_has_fewer() -> None:
    workers = known("a")
    held = pick(workers)
    search = Search()
    reject(workers, search)
    assert workers.pick(Search()) is None
    workers.leave(held, served=True)
    assert pick(workers, search, again=True) is held


def test_a_worker_with_fewer_of_other_balancers_is_asked_again() -> None:
    shares = (Share("balancer-2", "CT", "10.0.0.1", 2),)
    workers = known(member("a", load=Load(2, shares)))
    search = Search()
    worker = reject(workers, search)
    workers.update([member("a", load=Load(2, shares))])
    assert workers.pick(search, again=True) is None
    workers.update([member("a", load=Load(1, (replace(shares[0], associations=1),)))])
    assert pick(workers, search, again=True) is worker


def test_a_full_worker_is_tried_by_one_after_a_rest_and_by_all_when_that_one_was_taken() -> None:
    clock = Clock()
    workers = known("a", now=clock)
    reject(workers, Search())
    clock.now_s += REFUSED_REST_S
    trial = pick(workers)
    assert workers.pick(Search()) is None
    workers.answered(trial)
    pick(workers)


def test_one_that_let_us_wait_is_asked_again_only_when_it_answers() -> None:
    clock = Clock()
    workers = known("a", now=clock)
    search = Search()
    worker = fail(workers, "a", TimeoutError(), search)
    clock.now_s += 1
    assert workers.pick(search, again=True) is None
    workers.probe_answered(worker, clock.now_s)
    assert pick(workers, search, again=True) is worker


def test_one_that_refused_the_connection_is_asked_again_after_a_rest() -> None:
    clock = Clock()
    workers = known("a", now=clock)
    search = Search()
    worker = fail(workers, "a", REFUSED, search)
    assert workers.pick(search, again=True) is None
    clock.now_s += REFUSED_REST_S
    assert pick(workers, search, again=True) is worker


def test_one_that_failed_is_asked_last_for_a_while() -> None:
    clock = Clock()
    workers = known("a", "b", now=clock)
    fail(workers, "a")
    assert [pick(workers).name for _ in range(3)] == ["b", "b", "b"]
    clock.now_s += FAILING_REST_S
    assert pick(workers).name == "a"


def test_one_that_failed_is_asked_when_there_is_no_other() -> None:
    workers = known("a")
    fail(workers, "a")
    assert pick(workers).name == "a"


def test_one_that_answers_again_is_as_good_as_the_others() -> None:
    workers = known("a", "b")
    workers.answered(fail(workers, "a", TimeoutError()))
    assert {pick(workers).name for _ in range(2)} == {"a", "b"}


def test_missed_probes_count_only_in_a_row() -> None:
    workers = known("a", "b")
    a = next(iter(workers))
    for _ in range(3):
        workers.probe_missed(a, 2, "no answer")
        workers.probe_answered(a, 100.0)
    assert not a.is_failing(100.0)
    workers.probe_missed(a, 2, "no answer")
    assert not a.is_failing(100.0)
    workers.probe_missed(a, 2, "no answer")
    assert a.is_failing(1e9)
    assert [pick(workers).name for _ in range(3)] == ["b", "b", "b"]
    workers.probe_answered(a, 100.0)
    assert pick(workers).name == "a"


def test_a_probe_that_began_before_an_association_failed_does_not_excuse_it() -> None:
    clock = Clock()
    workers = known("a", "b", now=clock)
    begun_at = clock.now_s - 1
    a = fail(workers, "a")
    workers.probe_answered(a, begun_at)
    assert a.is_failing(clock.now_s)
    workers.probe_answered(a, clock.now_s)
    assert not a.is_failing(clock.now_s)


def test_another_is_one_that_is_well_and_has_room_and_was_not_asked() -> None:
    workers = known("a", "b")
    a, b = workers
    search = Search()
    assert workers.has_another(search, a)
    workers.update([member("a"), member("b", draining=True)])
    assert not workers.has_another(search, a)
    workers.update([member("a"), member("b")])
    workers.probe_missed(b, 1, "no answer")
    assert not workers.has_another(search, a)
    workers.probe_answered(b, 100.0)
    only_b = Search(Route(workers={"site": "b"}, only=True))
    assert not workers.has_another(only_b, a)
    workers.failed(only(workers, "b"), search, REFUSED)
    workers.answered(b)
    assert not workers.has_another(search, a)


def test_those_who_wait_are_told_when_there_may_be_room() -> None:
    workers = known(member("a", capacity=1))
    told: list[str] = []
    worker = pick(workers)
    workers.on_opening = lambda: told.append("opening")
    workers.answered(worker)
    assert told == []
    workers.leave(worker, served=True)
    workers.update([member("a", capacity=2)])
    workers.probe_missed(worker, 1, "no answer")
    workers.probe_answered(worker, 100.0)
    assert len(told) == 3


def test_a_worker_started_anew_does_not_inherit_associations() -> None:
    workers = known("a")
    before = pick(workers)
    workers.update([member("a", restarts=1, port=105)])
    after = pick(workers)
    assert after is not before
    assert (after.dicom.port, after.associations) == (105, 1)
    workers.leave(before, served=True)
    assert (after.associations, workers.associations) == (1, 1)


def test_a_worker_started_anew_may_be_asked_by_who_was_refused_before() -> None:
    workers = known("a")
    search = Search()
    fail(workers, "a", TimeoutError(), search)
    workers.update([member("a", restarts=1)])
    pick(workers, search)


def test_a_worker_that_describes_itself_anew_keeps_them() -> None:
    workers = known("a")
    before = pick(workers)
    workers.update([member("a", port=105)])
    assert pick(workers) is before
    assert (before.dicom.port, before.associations) == (105, 2)


def test_only_workers_that_take_associations_are_known() -> None:
    workers = known()
    workers.update([member("a", port=None)])
    assert len(workers) == 0
    assert workers.pick(Search()) is None
