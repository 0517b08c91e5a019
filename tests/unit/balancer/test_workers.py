from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from balancer.choice import Candidate, choose
from balancer.workers import Worker, Workers
from cluster.coordination.registry import Address, Member

STARTED_AT = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def member(name: str, *, restarts: int = 0, port: int | None = 104) -> Member:
    return Member(
        kind="worker",
        name=name,
        http=Address("127.0.0.1", 80),
        pid=1,
        version="0",
        started_at=STARTED_AT + timedelta(seconds=restarts),
        dicom=None if port is None else Address("127.0.0.1", port),
    )


def known(*names: str, now: Clock | None = None) -> Workers:
    workers = Workers(now or Clock(), failing_rest_s=5.0)
    workers.update([member(name) for name in names])
    return workers


def pick(workers: Workers, *refused: str) -> Worker:
    worker = workers.pick(refused)
    assert worker is not None
    return worker


candidates = st.lists(
    st.builds(Candidate, st.text(max_size=2), st.integers(0, 3), st.integers(0, 5), st.booleans()),
    unique_by=lambda candidate: candidate.name,
)


@given(candidates, st.sets(st.text(max_size=2)))
def test_nobody_left_out_has_fewer_associations(found: list[Candidate], refused: set[str]) -> None:
    left = [candidate for candidate in found if candidate.name not in refused]
    chosen = choose(found, refused)
    assert (chosen is None) == (not left)
    if chosen is not None:
        assert chosen.name not in refused
        well = [candidate for candidate in left if not candidate.failing] or left
        assert chosen in well
        assert chosen.associations == min(candidate.associations for candidate in well)


def test_equals_take_turns() -> None:
    workers = known("a", "b", "c")
    names = []
    for _ in range(6):
        worker = pick(workers)
        names.append(worker.name)
        workers.leave(worker)
    assert names == ["a", "b", "c", "a", "b", "c"]


def test_associations_offered_at_once_are_spread() -> None:
    workers = known("a", "b")
    assert sorted(pick(workers).name for _ in range(4)) == ["a", "a", "b", "b"]
    assert workers.associations == 4


def test_who_refused_is_not_asked_again_for_this_association() -> None:
    workers = known("a", "b")
    assert pick(workers, "a").name == "b"
    assert workers.pick({"a", "b"}) is None


def test_one_that_failed_is_asked_last_for_a_while() -> None:
    clock = Clock()
    workers = known("a", "b", now=clock)
    a = pick(workers, "b")
    workers.leave(a)
    workers.failed(a, "ConnectionRefusedError")
    assert [pick(workers).name for _ in range(3)] == ["b", "b", "b"]
    assert pick(workers, "b").name == "a"
    clock.now_s += 5.0
    assert pick(workers).name == "a"


def test_one_that_answers_again_is_as_good_as_the_others() -> None:
    workers = known("a", "b")
    a = pick(workers, "b")
    workers.leave(a)
    workers.failed(a, "TimeoutError")
    workers.answered(a)
    assert {pick(workers).name for _ in range(2)} == {"a", "b"}


def test_a_worker_started_anew_does_not_inherit_associations() -> None:
    workers = known("a", "b")
    before = pick(workers, "b")
    workers.update([member("a", restarts=1, port=105), member("b")])
    after = pick(workers, "b")
    assert after is not before
    assert (after.dicom.port, after.associations) == (105, 1)
    workers.leave(before)
    assert (after.associations, workers.associations) == (1, 1)


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
    assert workers.pick(()) is None
