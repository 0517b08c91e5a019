"""Balancers know for certain whom they talk with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from balancer.leadership.certificates import link_certificates
from balancer.leadership.interfaces import PeerUnavailable
from balancer.leadership.link import LinkPeers, LinkServer
from cluster.certificates import CertificatesUnusable
from cluster.coordination.registry import Address
from cluster.settings import Link
from tests.certificates import Authority

TIMEOUT_S = 5.0


async def echo(sender: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"from": sender, **body}


async def refuse(sender: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ValueError("expected something else")


async def hang(sender: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


@asynccontextmanager
async def served(link: Link) -> AsyncIterator[Address]:
    server = LinkServer(link_certificates(link), {"echo": echo, "refuse": refuse, "hang": hang})
    try:
        yield await server.start("127.0.0.1", 0)
    finally:
        await server.close()
        await asyncio.sleep(0.05)  # who was in the middle of a handshake sees that it is over


@asynccontextmanager
async def calling(link: Link, name: str = "lb2") -> AsyncIterator[LinkPeers]:
    peers = LinkPeers(name, link_certificates(link))
    try:
        yield peers
    finally:
        await peers.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_who_calls_is_known_by_name(authority: Authority) -> None:
    async with served(authority.link("lb1")) as at, calling(authority.link("lb2")) as peers:
        assert await peers.call("lb1", at, "echo", {"x": 1}, TIMEOUT_S) == {"from": "lb2", "x": 1}


async def test_who_answers_under_another_name_is_not_asked(authority: Authority) -> None:
    async with served(authority.link("lb3")) as at, calling(authority.link("lb2")) as peers:
        with pytest.raises(PeerUnavailable, match="lb1"):
            await peers.call("lb1", at, "echo", {}, TIMEOUT_S)


async def test_who_calls_under_another_name_is_refused(authority: Authority) -> None:
    link = authority.link("lb4")
    async with served(authority.link("lb1")) as at, calling(link) as peers:
        with pytest.raises(PeerUnavailable, match="does not name you so"):
            await peers.call("lb1", at, "echo", {}, TIMEOUT_S)


async def test_a_certificate_of_others_is_none(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "others").mkdir()
    stranger = Authority(tmp_path / "others").link("lb2").model_copy(update={"ca_file": authority.file})
    async with served(authority.link("lb1")) as at, calling(stranger) as peers:
        with pytest.raises(PeerUnavailable):
            await peers.call("lb1", at, "echo", {}, TIMEOUT_S)


async def test_nonsense_is_refused_with_its_reason(authority: Authority) -> None:
    async with served(authority.link("lb1")) as at, calling(authority.link("lb2")) as peers:
        with pytest.raises(PeerUnavailable, match="expected something else"):
            await peers.call("lb1", at, "refuse", {}, TIMEOUT_S)
        with pytest.raises(PeerUnavailable, match="404"):
            await peers.call("lb1", at, "unknown", {}, TIMEOUT_S)


async def test_who_hangs_is_given_up_in_time(authority: Authority) -> None:
    async with served(authority.link("lb1")) as at, calling(authority.link("lb2")) as peers:
        with pytest.raises(PeerUnavailable, match=r"no answer .* within 0\.2 s"):
            await peers.call("lb1", at, "hang", {}, 0.2)


@pytest.mark.parametrize("in_vain", [0, 2])
async def test_certificates_are_read_again_and_nobody_finds_the_link_closed(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_vain: int
) -> None:
    monkeypatch.setattr("balancer.leadership.link.LOOK_INTERVAL_S", 0.02)
    listen, outcomes = LinkServer._listen, [None, *[OSError("too many open files")] * in_vain]

    async def sometimes(server: LinkServer) -> object:
        if outcomes and (fault := outcomes.pop(0)) is not None:
            raise fault
        return await listen(server)

    monkeypatch.setattr(LinkServer, "_listen", sometimes)
    link, caller = authority.link("lb1"), authority.link("lb2")
    (tmp_path / "new").mkdir()
    new = Authority(tmp_path / "new")
    async with served(link) as at, calling(caller) as peers:
        await peers.call("lb1", at, "echo", {}, TIMEOUT_S)
        renewed = new.link("lb1")
        for ours, theirs in (
            (link.key_file, renewed.key_file),
            (link.certificate_file, renewed.certificate_file),
            (link.ca_file, renewed.ca_file),
        ):
            assert ours is not None
            assert theirs is not None
            theirs.replace(ours)
        async with (
            calling(new.link("lb2").model_copy(update={"ca_file": link.ca_file})) as later,
            asyncio.timeout(5),
        ):
            while True:
                try:
                    await later.call("lb1", at, "echo", {}, TIMEOUT_S)
                    break
                except PeerUnavailable as error:
                    if "Connect call failed" in str(error):
                        raise
                    await asyncio.sleep(0.02)


def test_a_key_that_does_not_fit_is_named(authority: Authority) -> None:
    link, other = authority.link("lb1"), authority.link("lb2")
    with pytest.raises(CertificatesUnusable, match=r"link.key_file .*lb2.key"):
        link_certificates(link.model_copy(update={"key_file": other.key_file}))
