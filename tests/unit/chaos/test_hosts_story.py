from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from chaos.hosts.story import Entry, Journal, read, told

ATRIA = '{"process": "lb1", "event": "%s", "token": 7, "level": "%s", "timestamp": "2026-03-01T10:00:0%sZ"}'
ETCD = '{"level":"warn","ts":"2026-03-01T11:00:02.500+0100","msg":"lost leader","peer":"c0b1","error":"EOF"}'
SLOW = '{"level":"warn","ts":"2026-03-01T11:00:02.600+0100","msg":"apply request took too long"}'
POSTGRESQL = "2026-03-01 10:00:03.123 UTC [17] FATAL:  no more"


def at(second: float) -> datetime:
    return datetime(2026, 3, 1, 10, 0, int(second), round(second % 1 * 1e6), UTC)


def log(logs: Path, host: str, unit: str, *lines: str) -> Path:
    file = logs / host / f"{unit}.log"
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def test_what_is_done_and_what_all_logs_say_is_one_row(tmp_path: Path) -> None:
    log(tmp_path, "lb1", "atria-balancer.service", ATRIA % ("leader.took", "info", "4.0"))
    log(tmp_path, "s1", "etcd.service", ETCD)
    log(tmp_path, "s1", "atria-postgresql.service", POSTGRESQL)
    done = Entry(at(1), "the network", "lb2 is unplugged")
    assert [line.split(maxsplit=1)[1] for line in told([done], tmp_path)] == [
        "the network            lb2 is unplugged",
        "s1 etcd                WARN lost leader: EOF",
        "s1 postgresql          FATAL:  no more",
        "lb1 balancer           leader.took token=7",
    ]
    assert len(told([done], tmp_path, since=at(3))) == 2


def test_an_association_is_told_only_where_it_went_wrong(tmp_path: Path) -> None:
    file = log(
        tmp_path,
        "s1",
        "atria-worker@1.service",
        ATRIA % ("association.ended", "info", "1.0"),
        ATRIA % ("association.ended", "warning", "2.0"),
    )
    (entry,) = read(file)
    assert entry == Entry(at(2), "s1 worker@1", "WARNING association.ended token=7")


def test_a_line_without_a_time_goes_with_the_one_before(tmp_path: Path) -> None:
    file = log(
        tmp_path, "s1", "atria-upkeep.service", ATRIA % ("x.failed", "error", "1.0"), "Traceback", "  at x"
    )
    assert [(entry.at, entry.what) for entry in read(file)][1:] == [(at(1), "Traceback"), (at(1), "  at x")]


def test_what_is_said_again_and_again_is_one_line(tmp_path: Path) -> None:
    file = log(tmp_path, "s1", "etcd.service", ETCD, ETCD, SLOW, ETCD, "other", ETCD)
    assert [entry.what for entry in read(file)] == [
        "WARN lost leader: EOF (3 times)",
        "other",
        "WARN lost leader: EOF",
    ]


def test_a_journal_says_when_and_where() -> None:
    journal = Journal()
    before = datetime.now(UTC)
    journal.of("lb1")("is switched off")
    (entry,) = journal.entries
    assert before <= entry.at <= datetime.now(UTC)
    assert (entry.where, entry.what) == ("lb1", "is switched off")
