"""PostgreSQL servers of our own, and sites whose catalogues are in them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from cluster.nouns import SiteIdentity
from cluster.settings import Settings, load
from deploy import catalogues, checks, making, record
from deploy.errors import UserError
from deploy.postgresql import PostgresqlServer
from tests.integration.deploy.atria import is_alive
from tests.postgresql import Databases, reachable_folder, running_server


@pytest.fixture(scope="module")
def databases() -> Iterator[Databases]:
    with running_server() as server:
        yield Databases(server)


@pytest.fixture
async def server() -> AsyncIterator[PostgresqlServer]:
    """A server that a test may do anything to."""
    with reachable_folder() as folder:
        server = PostgresqlServer(folder / "server")
        await server.start()
        yield server
        server.signal(signal.SIGCONT)
        await server.stop()


def processes(server: PostgresqlServer) -> list[int]:
    assert server.pid is not None
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return [server.pid, *map(int, children)]


async def test_a_server_forgets_nothing_and_asks_for_the_password(server: PostgresqlServer) -> None:
    connection = await server.connect()
    for name, value in {"fsync": "on", "synchronous_commit": "on", "data_checksums": "on"}.items():
        assert await connection.fetchval("SELECT current_setting($1)", name) == value
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.url("postgres"), password="guess")


async def test_what_was_committed_outlives_a_power_cut(server: PostgresqlServer) -> None:
    connection = await server.connect()
    await connection.execute("CREATE TABLE kept (number integer)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    before = processes(server)
    await server.kill()
    assert not any(map(is_alive, before))
    with pytest.raises((OSError, asyncpg.InterfaceError, asyncpg.PostgresError)):
        await connection.execute("INSERT INTO kept VALUES (2)")
    await server.start()
    connection = await server.connect()
    assert await connection.fetchval("SELECT array_agg(number) FROM kept") == [1]
    await connection.close()


async def test_a_stopped_server_answers_nobody_until_it_goes_on(server: PostgresqlServer) -> None:
    connection = await server.connect()
    server.signal(signal.SIGSTOP)
    assert not await server.is_ready()
    answer = asyncio.create_task(connection.fetchval("SELECT 1"))
    assert not (await asyncio.wait({answer}, timeout=0.2))[0]
    server.signal(signal.SIGCONT)
    assert await answer == 1
    assert await server.is_ready()
    await connection.close()


async def test_a_server_ends_though_clients_are_connected(server: PostgresqlServer) -> None:
    connection = await server.connect()
    before = processes(server)
    await server.stop()
    assert not any(map(is_alive, before))
    assert server.log_file.read_text().rstrip().endswith("database system is shut down")
    connection.terminate()
    await server.start()


async def test_a_first_start_that_was_cut_short_is_begun_anew() -> None:
    with reachable_folder() as folder:
        server = PostgresqlServer(folder)
        (folder / "data.new").mkdir()
        (folder / "data.new" / "half").touch()
        await server.start()
        assert not (folder / "data.new").exists()
        await server.stop()


async def test_a_port_that_is_taken_is_said(server: PostgresqlServer) -> None:
    with reachable_folder() as folder, pytest.raises(UserError, match=r"PostgreSQL .*FATAL") as caught:
        await PostgresqlServer(folder, server.port).start()
    assert "\n" not in str(caught.value)


def settings_of(tmp_path: Path, databases: Databases, *names: str) -> Settings:
    """Three sites of folders, with catalogues in databases of these names."""
    sites = [
        {
            "name": site,
            "objects": f"file://{tmp_path}/{site}/objects",
            "catalogue": databases.location(name).url,
            "catalogue_passfile": databases.location(name).passfile,
        }
        for site, name in zip("abc", names, strict=True)
    ]
    return load(None, data_folder=tmp_path / "data", sites=sites)


@pytest.fixture
def settings(tmp_path: Path, databases: Databases, request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A cluster of three new databases."""
    names = [f"site_{name}_{abs(hash(request.node.name))}" for name in "abc"]
    for name in names:
        asyncio.run(databases.server.new_database(name))
    yield settings_of(tmp_path, databases, *names)
    for name in names:
        asyncio.run(databases.server.drop_database(name))


async def identity_in(settings: Settings, name: str) -> SiteIdentity:
    (site,) = (site for site in settings.sites if site.name == name)
    catalogue = catalogues.open_catalogue(site, record.of_sites(settings)[name].identity)
    try:
        return await catalogue.identity()
    finally:
        await catalogue.close()


async def schemas(databases: Databases, settings: Settings, name: str) -> list[str]:
    (site,) = (site for site in settings.sites if site.name == name)
    connection = await databases.server.connect(site.database.database)
    found = await connection.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'atria%' ORDER BY 1")
    await connection.close()
    return [name for (name,) in found]


def test_a_new_cluster_has_its_sites_identities_in_its_databases(settings: Settings) -> None:
    for _ in range(2):
        making.prepare(settings)
    for name, one in record.of_sites(settings).items():
        assert asyncio.run(identity_in(settings, name)) == one.identity


def test_a_replaced_sites_catalogue_is_moved_aside(databases: Databases, settings: Settings) -> None:
    making.prepare(settings)
    for generation in (2, 3):
        identity = making.replace_site(settings, settings.sites[1])
        assert asyncio.run(identity_in(settings, "b")) == identity
        assert identity.generation == generation
    assert asyncio.run(schemas(databases, settings, "b")) == [
        "atria",
        "atria_before_generation_2",
        "atria_before_generation_3",
    ]


def test_a_replacement_that_was_cut_short_is_taken_up_where_it_was(
    databases: Databases, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.prepare(settings)

    def dies(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(making, "_made", dies)
        with pytest.raises(KeyboardInterrupt):
            making.replace_site(settings, settings.sites[1])
    assert making.replace_site(settings, settings.sites[1]).generation == 2
    assert asyncio.run(schemas(databases, settings, "b")) == ["atria", "atria_before_generation_2"]


def test_two_names_of_one_database_are_refused_when_it_is_made(
    tmp_path: Path, databases: Databases, settings: Settings
) -> None:
    b = settings.sites[1].database.database
    tables = [site.model_dump(exclude_unset=True) for site in settings.sites]
    tables[2]["catalogue"] = databases.server.url(b).replace("127.0.0.1", "localhost")
    same = load(None, data_folder=tmp_path / "data", sites=tables)
    with pytest.raises(UserError, match=r"^site c: .*localhost.* of site b, .*: choose another database"):
        making.prepare(same)


def test_a_wrong_setting_costs_no_sound_site_its_catalogue(
    tmp_path: Path, databases: Databases, settings: Settings
) -> None:
    making.prepare(settings)
    b = settings.sites[1].database.database
    tables = [site.model_dump(exclude_unset=True) for site in settings.sites]
    tables[2]["catalogue"] = databases.server.url(b).replace("127.0.0.1", "localhost")
    wrong = load(None, data_folder=tmp_path / "data", sites=tables)
    with pytest.raises(UserError, match=r"^site c: .* holds the catalogue of site b"):
        making.replace_site(wrong, wrong.sites[2])
    c = record.of_sites(settings)["c"].identity
    assert c.generation == 1
    with pytest.raises(UserError, match=r"^site c: .* holds the catalogue of site b"):
        catalogues.renew(wrong.sites[2], replace(c, generation=2))
    for name, one in record.of_sites(settings).items():
        assert asyncio.run(identity_in(settings, name)) == one.identity


def test_a_database_that_is_not_there_is_told_in_a_line_and_costs_no_generation(
    tmp_path: Path, settings: Settings
) -> None:
    making.prepare(settings)
    tables = [site.model_dump(exclude_unset=True) for site in settings.sites]
    tables[2]["catalogue"] = tables[2]["catalogue"].replace("?", "x?")
    wrong = load(None, data_folder=tmp_path / "data", sites=tables)
    with pytest.raises(UserError, match=r"^catalogue of site c: .*database .* does not exist") as caught:
        making.replace_site(wrong, wrong.sites[2])
    assert "\n" not in str(caught.value)
    assert record.of_sites(settings)["c"].identity.generation == 1


async def test_a_check_tells_of_a_database_that_is_another_sites(
    tmp_path: Path, databases: Databases, settings: Settings
) -> None:
    await asyncio.to_thread(making.prepare, settings)
    assert [one.problems for one in await checks.check(settings, {"a", "b", "c"})] == [(), (), ()]
    tables = [site.model_dump(exclude_unset=True) for site in settings.sites]
    tables[1]["catalogue"], tables[2]["catalogue"] = tables[2]["catalogue"], tables[1]["catalogue"]
    swapped = load(None, data_folder=tmp_path / "data", sites=tables)
    (found,) = await checks.check(swapped, {"b"})
    assert found.problems[0].startswith("site b: catalogue: postgresql://")
