from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from cluster.dicom import client
from cluster.dicom.association import Association
from deploy.client.find import decode
from deploy.client.get import Getter, Got
from deploy.client.locate import Located
from deploy.client.peer import Peer
from storage_node.services.reply import reply
from tests.integration.deploy.scp import listening

EXPLICIT, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"

INSTANCES = [
    Located(
        "1.1",
        f"1.2.{number % 3}",
        f"1.3.{number}",
        CT if number % 2 else MR,
        (RLE if number % 4 else EXPLICIT,),
    )
    for number in range(12)
]


def data_set(uid: str) -> bytes:
    return f"not parsed by anybody: {uid}".encode()


async def cut_short(uid: str) -> AsyncIterator[bytes]:
    for _ in range(16):
        yield bytes(1 << 20)
    raise Cut


class Cut(Exception):
    """Aborts the association in the middle of a data set."""


class Scripted:
    """A C-GET SCP that holds `INSTANCES`, and sends those that a function says; None aborts in the middle."""

    def __init__(self, sends: Callable[[str, int], bool | None], status: int = 0x0000) -> None:
        self._sends = sends
        self._status = status
        self.asked: Counter[str] = Counter()
        self._held = {instance.sop_instance_uid: instance for instance in INSTANCES}

    async def serve(self, association: Association) -> None:
        while True:
            message = await association.receive()
            assert message.data_set is not None
            identifier = decode(
                b"".join(await message.data_set.read(1 << 20)), message.context.transfer_syntax
            )
            wanted = identifier.SOPInstanceUID
            for uid in [wanted] if isinstance(wanted, str) else wanted:
                self.asked[uid] += 1
                sends = self._sends(uid, self.asked[uid])
                if sends is not False:
                    instance = self._held[uid]
                    await client.store(
                        association,
                        sop_class_uid=instance.sop_class_uid,
                        sop_instance_uid=uid,
                        transfer_syntax_uid=instance.transfer_syntax_uids[0],
                        data_set=cut_short(uid) if sends is None else [data_set(uid)],
                    )
            await association.send(message.context.context_id, reply(message.command, self._status))


async def get(peer: Peer, out: Path, attempts: int = 2) -> Got:
    received: list[Located] = []
    got = await Getter(peer, out, attempts=attempts, on_received=received.append).get(INSTANCES)
    assert Counter(received) == Counter(list(got.files))
    return got


def assert_all_there(got: Got, out: Path) -> None:
    assert set(got.files) == set(INSTANCES)
    for instance, path in got.files.items():
        content = path.read_bytes()
        assert content[128:132] == b"DICM"
        assert content.endswith(data_set(instance.sop_instance_uid))
    assert [path for path in out.rglob("*") if path.is_file() and path.suffix != ".dcm"] == []


async def test_each_instance_is_in_its_file_with_its_data_set_as_it_came(tmp_path: Path) -> None:
    scripted = Scripted(lambda uid, attempt: True)
    async with listening(scripted.serve) as peer:
        got = await get(peer, tmp_path)
    assert_all_there(got, tmp_path)
    assert set(scripted.asked.values()) == {1}


async def test_after_a_lost_association_only_what_is_missing_is_asked_for_again(tmp_path: Path) -> None:
    scripted = Scripted(lambda uid, attempt: None if uid == "1.3.7" and attempt == 1 else True)
    async with listening(scripted.serve) as peer:
        got = await get(peer, tmp_path)
    assert_all_there(got, tmp_path)
    assert got.lost_associations == 1
    assert scripted.asked["1.3.0"] == 1
    assert scripted.asked["1.3.7"] == 2


async def test_what_never_comes_fails_and_the_rest_is_there(tmp_path: Path) -> None:
    scripted = Scripted(lambda uid, attempt: uid != "1.3.7")
    async with listening(scripted.serve) as peer:
        got = await get(peer, tmp_path)
    assert [instance.sop_instance_uid for instance in got.failed] == ["1.3.7"]
    assert len(got.files) == 11


async def test_a_folder_that_cannot_be_written_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    async with listening(Scripted(lambda uid, attempt: True).serve) as peer:
        got = await get(peer, tmp_path / "out", attempts=1)
    assert len(got.failed) == 12
    assert "cannot be written" in next(iter(got.failed.values()))


async def test_why_it_was_not_written_stands_above_what_the_peer_then_answers(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    async with listening(Scripted(lambda uid, attempt: True, status=0xA702).serve) as peer:
        got = await get(peer, tmp_path / "out", attempts=1)
    assert all("cannot be written" in reason for reason in got.failed.values())


async def test_two_studies_may_hold_instances_of_the_same_uid(tmp_path: Path) -> None:
    both = [Located(study, f"{study}.1", "1.3.0", MR, (EXPLICIT,)) for study in ("1.1", "1.2")]
    async with listening(Scripted(lambda uid, attempt: True).serve) as peer:
        got = await Getter(peer, tmp_path, attempts=1, on_received=lambda _: None).get(both)
    assert (list(got.files), got.failed) == (both, {})
    assert len(list(tmp_path.rglob("*.dcm"))) == 2


@pytest.mark.parametrize("attempts", [1, 2])
async def test_nobody_there_fails_all(tmp_path: Path, attempts: int) -> None:
    async with listening(Scripted(lambda uid, attempt: True).serve) as peer:
        pass
    got = await get(peer, tmp_path, attempts)
    assert set(got.failed) == set(INSTANCES)
    assert "cannot be reached" in next(iter(got.failed.values()))
