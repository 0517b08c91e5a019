"""An SQLite catalogue when its file goes, comes, is another, or is shared."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.nouns import Level
from storage_node.catalogue.matching import Query
from storage_node.catalogue.protocol import CatalogueUnavailable
from storage_node.catalogue.sqlite import database, read
from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue
from tests.contract.catalogue.conftest import IDENTITY
from tests.contract.catalogue.rows import BEGIN, add, debt, fact, row


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "site-a"
    folder.mkdir()
    SqliteCatalogue.create(folder / "catalogue.sqlite", IDENTITY)
    return folder / "catalogue.sqlite"


@pytest.fixture
async def catalogue(file: Path) -> AsyncIterator[SqliteCatalogue]:
    opened = SqliteCatalogue("a", file, IDENTITY)
    yield opened
    await opened.close()


async def _nothing_works(catalogue: SqliteCatalogue, reason: str) -> None:
    one = row()
    for call in (
        add(catalogue, one),
        catalogue.owe([debt(one)]),
        catalogue.settle("b", one),
        catalogue.forgive(debt(one)),
        catalogue.decide(fact(one)),
        catalogue.verified([(one.version.instance, one.version.digest)], BEGIN),
        catalogue.least_verified(BEGIN, 1),
        catalogue.facts_of(one.version.instance),
        catalogue.facts_in("1.2.3"),
        anext(catalogue.studies()),
        catalogue.debts(1),
        catalogue.rows_of(one.version.instance),
        catalogue.counts(),
        catalogue.identity(),
        anext(catalogue.walk()),
        anext(catalogue.find(Query(Level.STUDY), 1)),
    ):
        with pytest.raises(CatalogueUnavailable, match=reason) as caught:
            await call
        assert "\n" not in str(caught.value)


async def test_a_missing_file_is_unavailable_and_never_made(tmp_path: Path) -> None:
    missing = tmp_path / "away" / "catalogue.sqlite"
    catalogue = SqliteCatalogue("a", missing, IDENTITY)
    await _nothing_works(catalogue, "No such file")
    missing.parent.mkdir()
    await _nothing_works(catalogue, "No such file")
    assert list(missing.parent.iterdir()) == []
    SqliteCatalogue.create(missing, IDENTITY)
    assert await add(catalogue, row()) == 1, "it needs no restart when its file is there"
    await catalogue.close()


def test_a_file_that_vanishes_before_it_is_opened_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        database.connect(tmp_path / "catalogue.sqlite")
    assert list(tmp_path.iterdir()) == []


async def test_another_sites_file_is_not_used(file: Path) -> None:
    for other in (
        replace(IDENTITY, name="b"),
        replace(IDENTITY, site_id="another"),
        replace(IDENTITY, generation=2),
    ):
        catalogue = SqliteCatalogue("a", file, other)
        await _nothing_works(catalogue, "another was expected")
        await catalogue.close()


async def test_a_folder_moved_away_takes_no_writes_and_works_again_when_it_is_back(
    catalogue: SqliteCatalogue, file: Path
) -> None:
    before, after = row(), row(sop="1.2.9")
    await add(catalogue, before)
    assert (await catalogue.counts()).versions == 1
    away = file.parent.with_name("away")
    file.parent.rename(away)
    await _nothing_works(catalogue, "No such file")
    assert not file.parent.exists()
    away.rename(file.parent)
    await add(catalogue, after)
    assert (await catalogue.counts()).versions == 2


async def test_a_commit_into_a_folder_that_is_moved_meanwhile_is_not_confirmed(
    catalogue: SqliteCatalogue, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(catalogue, row())
    away = file.parent.with_name("away")
    checks = []

    def check(opened: database.DatabaseFile) -> None:
        checks.append(opened)
        original(opened)
        if len(checks) == 2:  # before the commit, after what is changed: the last moment
            file.parent.rename(away)

    original = database.DatabaseFile.check
    monkeypatch.setattr(database.DatabaseFile, "check", check)
    with pytest.raises(CatalogueUnavailable):
        await add(catalogue, row(sop="1.2.9"))
    assert len(checks) == 3
    monkeypatch.undo()
    with closing(sqlite3.connect(away / file.name)) as connection:
        (versions,) = connection.execute("SELECT count(*) FROM versions").fetchone()
    assert versions == 2, "it may have been done all the same"


async def test_a_folder_that_is_swapped_within_a_transaction_is_unavailable_then_used(
    catalogue: SqliteCatalogue, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(catalogue, row())
    away = file.parent.with_name("away")
    checks = []

    def check(opened: database.DatabaseFile) -> None:
        checks.append(opened)
        if len(checks) == 2:  # before the commit, after what is changed
            file.parent.rename(away)
            file.parent.mkdir()
            SqliteCatalogue.create(file, IDENTITY)
        original(opened)

    original = database.DatabaseFile.check
    monkeypatch.setattr(database.DatabaseFile, "check", check)
    with pytest.raises(CatalogueUnavailable, match="another file"):
        await add(catalogue, row(sop="1.2.9"))
    monkeypatch.undo()
    await add(catalogue, row(sop="1.2.8"))
    assert (await catalogue.counts()).versions == 1
    with closing(sqlite3.connect(away / file.name)) as moved:
        assert moved.execute("SELECT count(*) FROM versions").fetchone() == (1,)


async def test_nothing_is_confirmed_into_a_log_that_was_removed(
    file: Path,
) -> None:
    """An SQLite file without its write-ahead log lacks what was committed last."""
    catalogue = SqliteCatalogue("a", file, IDENTITY)
    await add(catalogue, row())
    await catalogue.identity()
    await catalogue.counts()
    file.with_name(f"{file.name}-wal").unlink()
    for _ in range(2):
        await _nothing_works(catalogue, "write-ahead log")
    await catalogue.close()
    again = SqliteCatalogue("a", file, IDENTITY)
    await add(again, row(sop="1.2.9"))
    assert (await again.counts()).versions >= 2, "who let go of it last brought the removed log in"
    await again.close()


async def test_a_swapped_file_is_noticed_and_left_unharmed(catalogue: SqliteCatalogue, file: Path) -> None:
    await add(catalogue, row())
    away = file.parent.with_name("away")
    file.parent.rename(away)
    file.parent.mkdir()
    SqliteCatalogue.create(file, IDENTITY)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute(
            "INSERT INTO debts VALUES (1, 'x', 'x', 'x', 'x', 'x')"
        )  # is in its write-ahead log now
        with pytest.raises(CatalogueUnavailable, match="another file"):
            await add(catalogue, row(sop="1.2.9"))
        assert file.with_name(f"{file.name}-wal").stat().st_size > 0
    assert (await catalogue.counts()).debts == 1, "the restored copy is used from then on"
    with closing(sqlite3.connect(away / file.name)) as moved:
        assert moved.execute("SELECT count(*) FROM versions").fetchone() == (1,)


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
async def test_a_file_that_is_no_database_is_unavailable(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    catalogue = SqliteCatalogue("a", file, IDENTITY)
    await _nothing_works(catalogue, "catalogue.sqlite: ")
    await catalogue.close()


async def test_a_failing_transaction_leaves_the_writer_alive(catalogue: SqliteCatalogue, file: Path) -> None:
    await add(catalogue, row())
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("ALTER TABLE debts RENAME TO mislaid")
        with pytest.raises(CatalogueUnavailable, match="no such table"):
            await add(catalogue, row(sop="1.2.9"), [debt(row())])
        other.execute("ALTER TABLE mislaid RENAME TO debts")
    assert (await catalogue.counts()).versions == 1, "nothing of it was kept"
    await add(catalogue, row(sop="1.2.9"))


async def test_a_fact_whose_views_cannot_follow_is_not_kept(catalogue: SqliteCatalogue, file: Path) -> None:
    await add(catalogue, row())
    (before,) = [summary async for summary in catalogue.studies()]
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("ALTER TABLE studies RENAME TO mislaid")
        with pytest.raises(CatalogueUnavailable, match="no such table"):
            await catalogue.decide(fact(row()), [debt(row())])
        other.execute("ALTER TABLE mislaid RENAME TO studies")
    assert [summary async for summary in catalogue.studies()] == [before]
    assert ((await catalogue.counts()).instances, (await catalogue.counts()).debts) == (1, 0)
    await catalogue.decide(fact(row()))
    assert (await catalogue.counts()).instances == 0


async def test_one_bad_change_does_no_harm_to_those_it_shares_a_transaction_with(
    catalogue: SqliteCatalogue,
) -> None:
    bad = row(sop="1.2.8")
    bad = replace(bad, version=replace(bad.version, size_bytes=2**70))
    good = [row(sop=f"1.2.9.{n}") for n in range(5)]
    added = await asyncio.gather(
        *(add(catalogue, each) for each in [*good[:2], bad, *good[2:]]), return_exceptions=True
    )
    assert [type(outcome) for outcome in added] == [int, int, OverflowError, int, int, int]
    assert (await catalogue.counts()).versions == 5


async def test_a_change_outlives_a_process_that_is_killed(file: Path) -> None:
    script = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from storage_node.catalogue.sqlite.catalogue import SqliteCatalogue\n"
        "from tests.contract.catalogue.conftest import IDENTITY\n"
        "from tests.contract.catalogue.rows import add, fact, row\n"
        "async def main():\n"
        "    catalogue = SqliteCatalogue('a', Path(sys.argv[1]), IDENTITY)\n"
        "    rows = [row(sop=f'1.2.{n}') for n in range(50)]\n"
        "    await asyncio.gather(*(add(catalogue, each) for each in rows))\n"
        "    await asyncio.gather(*(catalogue.decide(fact(each)) for each in rows[:20]))\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(file))
    assert await process.wait() == -9
    catalogue = SqliteCatalogue("a", file, IDENTITY)
    counts = await catalogue.counts()
    assert (counts.versions, counts.instances) == (50, 30)
    assert [summary.entries async for summary in catalogue.studies()] == [70]
    await catalogue.close()


async def test_two_that_write_one_file_lose_nothing(file: Path) -> None:
    both = [SqliteCatalogue("a", file, IDENTITY) for _ in range(2)]
    orders = await asyncio.gather(
        *(add(both[n % 2], row(content=str(n))) for n in range(60)),
        *(add(both[n % 2], row(sop=f"1.2.9.{n}")) for n in range(60)),
    )
    assert sorted(orders[:60]) == list(range(1, 61)), "each met all that were before it"
    assert (await both[0].counts()).instances == 61
    for catalogue in both:
        await catalogue.close()


async def test_a_cancelled_call_does_no_harm(catalogue: SqliteCatalogue) -> None:
    tasks = [asyncio.create_task(add(catalogue, row(sop=f"1.2.{n}"))) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes[::2])
    assert (await catalogue.counts()).versions >= 10


def test_making_is_whole_or_not_at_all_and_never_over_something_else(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.sqlite"
    SqliteCatalogue.create(file, IDENTITY)
    SqliteCatalogue.create(file, IDENTITY)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    with pytest.raises(FileExistsError):
        SqliteCatalogue.create(file, replace(IDENTITY, generation=2))
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(FileExistsError):
        SqliteCatalogue.create(other, IDENTITY)
    assert other.read_text() == "mine"
    with pytest.raises(FileNotFoundError):
        SqliteCatalogue.create(tmp_path / "away" / "catalogue.sqlite", IDENTITY)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda of: read.least_verified(of, BEGIN, 10), "versions_by_verification"),
        (lambda of: read.walk(of, "1.2.3", None, 10), "sqlite_autoindex_versions_1"),
        (lambda of: read.walk(of, None, None, 10), "sqlite_autoindex_versions_1"),
        (lambda of: read.studies(of, "", 10), "PRIMARY KEY"),
        (lambda of: read.facts_in(of, "1.2.3"), "PRIMARY KEY"),
    ],
)
def test_what_upkeep_asks_is_read_in_the_order_of_an_index(
    file: Path, ask: Callable[[sqlite3.Connection], object], index: str
) -> None:
    asked: list[str] = []
    with closing(sqlite3.connect(file)) as connection:
        connection.set_trace_callback(asked.append)
        ask(connection)
        connection.set_trace_callback(None)
        plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}"))
    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_changes_are_read_in_the_order_of_an_index(file: Path) -> None:
    asked: list[str] = []
    with closing(sqlite3.connect(file)) as connection:
        connection.set_trace_callback(asked.append)
        read.changes(connection, None, 10)
        connection.set_trace_callback(None)
        looked_up = [sql for sql in asked if sql.startswith("SELECT")]
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in looked_up]
    first, *pages = [" ".join(step[3] for step in plan) for plan in plans]
    assert "SEARCH versions" in first
    assert "facts_by_number" in first
    assert ["SEARCH versions USING INTEGER PRIMARY KEY" in plan for plan in pages] == [True, False]
    assert "facts_by_number (number>?)" in pages[1]
    assert not any("TEMP B-TREE" in plan for plan in (first, *pages))


async def test_durability_is_asked_of_sqlite(file: Path) -> None:
    opened = database.DatabaseFile("a", file, IDENTITY)
    with opened.opened() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    opened.close()
