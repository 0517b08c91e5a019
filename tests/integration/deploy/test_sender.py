from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.dicom.association import Association, Message
from cluster.dicom.negotiation import AcceptancePolicy
from deploy.client.files import DicomFile
from deploy.client.peer import Peer
from deploy.client.send import Sender, Sent
from storage_node.services.reply import reply
from tests.integration.deploy.scp import listening

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"


class Scripted:
    """A storage SCP that answers each C-STORE-RQ as a function says: a status, or None to abort."""

    def __init__(self, answer: Callable[[str, int], int | None]) -> None:
        self._answer = answer
        self.stored: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()

    async def serve(self, association: Association) -> None:
        while True:
            message: Message = await association.receive()
            assert message.data_set is not None
            buffers = []
            while read := await message.data_set.read(1 << 20):
                buffers += read
            uid = str(message.command.affected_sop_instance_uid)
            self.asked[uid] += 1
            status = self._answer(uid, self.asked[uid])
            if status is None:
                association.abort()
                return
            if status == 0:
                self.stored[uid] = b"".join(buffers)
            await association.send(message.context.context_id, reply(message.command, status))


@pytest.fixture
def files(tmp_path: Path) -> list[DicomFile]:
    made = []
    for number in range(20):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(b"head" + bytes([number]) * 1000)
        made.append(DicomFile(path, CT, f"1.2.{number}", EXPLICIT, 4, 1004))
    return made


async def send(peer: Peer, files: list[DicomFile], attempts: int = 3) -> Sent:
    settled: list[DicomFile] = []
    sent = await Sender(peer, associations=2, attempts=attempts, on_settled=settled.append).send(files)
    assert Counter(settled) == Counter(files)
    return sent


def uids(sent: Sent) -> set[str]:
    return {file.sop_instance_uid for file in sent.stored}


async def test_each_data_set_goes_as_it_is_in_its_file(files: list[DicomFile]) -> None:
    scripted = Scripted(lambda uid, attempt: 0)
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files)
    assert scripted.stored == {file.sop_instance_uid: file.path.read_bytes()[4:] for file in files}
    assert (len(sent.stored), sent.failed, sent.resent, sent.lost_associations) == (20, [], 0, 0)


async def test_what_was_not_acknowledged_when_an_association_is_lost_is_sent_again_and_nothing_else(
    files: list[DicomFile],
) -> None:
    lost = {"1.2.3", "1.2.15"}
    scripted = Scripted(lambda uid, attempt: None if uid in lost and attempt == 1 else 0)
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files)
    assert uids(sent) == {file.sop_instance_uid for file in files}
    assert (sent.lost_associations, sent.resent) == (2, 2)
    assert {uid for uid, times in scripted.asked.items() if times > 1} == lost


async def test_out_of_resources_is_tried_again_and_then_given_up(files: list[DicomFile]) -> None:
    scripted = Scripted(
        lambda uid, attempt: 0xA700 if uid == "1.2.4" or (uid == "1.2.1" and attempt == 1) else 0
    )
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files[:6])
    assert uids(sent) == {"1.2.0", "1.2.1", "1.2.2", "1.2.3", "1.2.5"}
    (failure,) = sent.failed
    assert failure.file.sop_instance_uid == "1.2.4"
    assert "0xA700" in failure.reason
    assert "tried 3 times" in failure.reason
    assert scripted.asked["1.2.4"] == 3


async def test_a_refusal_for_good_is_not_tried_again(files: list[DicomFile]) -> None:
    scripted = Scripted(lambda uid, attempt: 0xC000 if uid == "1.2.4" else 0)
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files)
    assert [failure.file.sop_instance_uid for failure in sent.failed] == ["1.2.4"]
    assert scripted.asked["1.2.4"] == 1
    assert len(sent.stored) == 19


async def test_a_warning_is_stored_and_told(files: list[DicomFile]) -> None:
    scripted = Scripted(lambda uid, attempt: 0xB007 if uid == "1.2.4" else 0)
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files)
    assert len(sent.stored) == 20
    assert [warning.file.sop_instance_uid for warning in sent.warnings] == ["1.2.4"]


async def test_a_file_that_kills_each_association_does_not_take_the_others_with_it(
    files: list[DicomFile],
) -> None:
    scripted = Scripted(lambda uid, attempt: None if uid == "1.2.4" else 0)
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files)
    assert [failure.file.sop_instance_uid for failure in sent.failed] == ["1.2.4"]
    assert len(sent.stored) == 19


async def test_a_file_that_has_gone_fails_alone(files: list[DicomFile]) -> None:
    files[4].path.unlink()
    scripted = Scripted(lambda uid, attempt: 0)
    async with listening(scripted.serve) as peer:
        sent = await send(peer, files)
    assert [failure.file.sop_instance_uid for failure in sent.failed] == ["1.2.4"]
    assert "cannot be read" in sent.failed[0].reason
    assert len(sent.stored) == 19


async def test_nobody_there_fails_all_after_the_attempts(files: list[DicomFile]) -> None:
    async with listening(Scripted(lambda uid, attempt: 0).serve) as peer:
        pass
    sent = await send(peer, files, attempts=2)
    assert len(sent.failed) == 20
    assert "cannot be reached" in sent.failed[0].reason


async def test_a_rejection_for_good_fails_all_at_once(files: list[DicomFile]) -> None:
    strict = AcceptancePolicy(ae_title="OTHER", check_called_ae_title=True)
    async with listening(Scripted(lambda uid, attempt: 0).serve, strict) as peer, asyncio.timeout(5):
        sent = await send(peer, files, attempts=1000)
    assert len(sent.failed) == 20
    assert "called AE" in sent.failed[0].reason


async def test_a_rejection_that_passes_is_tried_again(files: list[DicomFile]) -> None:
    scripted = Scripted(lambda uid, attempt: 0)
    full = AcceptancePolicy(ae_title="ANY", max_associations=1)
    async with listening(scripted.serve, full) as peer:
        sent = await send(peer, files)
    assert len(sent.stored) == 20


async def test_what_the_peer_does_not_take_fails_alone(files: list[DicomFile]) -> None:
    files[4] = replace(files[4], sop_class_uid="1.2.3.4.5.6.7")
    known_only = AcceptancePolicy(ae_title="ANY", accept_unknown_storage=False)
    async with listening(Scripted(lambda uid, attempt: 0).serve, known_only) as peer:
        sent = await send(peer, files)
    assert [failure.file for failure in sent.failed] == [files[4]]
    assert "takes no 1.2.3.4.5.6.7" in sent.failed[0].reason
