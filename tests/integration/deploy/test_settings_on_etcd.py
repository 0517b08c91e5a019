"""Settings that several hosts share by etcd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from cluster.settings import Etcd
from cluster.settings.live import LiveSettings
from deploy import compose
from deploy.overrides import Overrides
from tests.etcd import EtcdCluster, own_cluster
from tests.integration.deploy.atria import atria
from tests.waiting import until


@pytest.fixture
async def etcd() -> AsyncIterator[EtcdCluster]:
    async with own_cluster() as cluster:
        yield cluster


def host(folder: Path, etcd: Etcd, text: str = "") -> Overrides:
    """Return the settings of one of the hosts, which has a folder of its own."""
    folder.mkdir(exist_ok=True)
    file = folder / "atria.toml"
    values = etcd.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    file.write_text(f'data_folder = "{folder}"\n{text}\n[etcd]\ncold_start_s = 0.5\n{lines}\n')
    return Overrides(config=file)


def process(overrides: Overrides) -> AbstractAsyncContextManager[LiveSettings]:
    """Run what a process of a host does about its settings."""

    @asynccontextmanager
    async def run() -> AsyncIterator[LiveSettings]:
        settings = overrides.settings()
        coordination = compose.coordination(settings)
        assert coordination is not None
        try:
            async with compose.live(settings, overrides.file, coordination) as live:
                yield live
        finally:
            await coordination.close()

    return run()


async def command(overrides: Overrides, *words: object) -> str:
    done = await asyncio.to_thread(atria, *words, *overrides.arguments())
    assert done.returncode == 0, done.stderr
    return done.stdout


async def until_known(live: LiveSettings, *titles: str) -> None:
    await until(lambda: live.now.known_aes == set(titles), seen=lambda: live.now.known_aes)


async def test_all_hosts_follow_what_is_changed_on_one(etcd: EtcdCluster, tmp_path: Path) -> None:
    keys = etcd.settings()
    one = host(tmp_path / "one", keys, "[[peers]]\nae_title = 'CT1'")
    other = host(tmp_path / "other", keys, "[[peers]]\nae_title = 'IN_VAIN'")
    async with process(one) as here, process(other) as there:
        assert here.now.known_aes == there.now.known_aes == {"CT1"}
        await command(other, "ae", "add", "MR1")
        await until_known(here, "CT1", "MR1")
        await until_known(there, "CT1", "MR1")
        await command(one, "settings", "revert", 1)
        await until_known(there, "CT1")
    shown = await asyncio.to_thread(atria, "settings", "show", "peers", "--json", *other.arguments())
    assert json.loads(shown.stdout)["peers"]["from"] == "cluster"
    assert "says something else of peers" in shown.stderr
    assert "IN_VAIN" in other.file.read_text()


async def test_a_process_starts_without_etcd_and_follows_when_it_is_back(
    etcd: EtcdCluster, tmp_path: Path
) -> None:
    here = host(tmp_path / "one", etcd.settings())
    async with process(here) as live:
        await command(here, "ae", "add", "CT1")
        await until_known(live, "CT1")
        kept = tmp_path / "one" / "settings.json"
        await until(lambda: "CT1" in kept.read_text(), seen=kept.read_text)
    (member,) = etcd.members
    await member.stop()
    async with process(here) as live:
        assert live.now.known_aes == {"CT1"}
        refused = await asyncio.to_thread(atria, "ae", "add", "MR1", *here.arguments())
        assert refused.returncode == 2
        assert "nothing was changed" in refused.stderr
        await etcd.mend()
        await command(here, "ae", "add", "MR1")
        await until_known(live, "CT1", "MR1")
