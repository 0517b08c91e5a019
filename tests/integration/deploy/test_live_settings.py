"""Settings that are changed while a cluster runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from pydicom import dcmread

from cluster.dicom import client, uids
from cluster.dicom.association import Association
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.requestor import AssociationRejected, ProposedContext, connect
from storage_node.services.reply import reply
from tests.integration.deploy.atria import Up, atria, up
from tests.integration.deploy.scp import listening
from tests.integration.services.instances import identifier
from tests.waiting import soon, until

T = TypeVar("T")

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(tmp_path_factory.mktemp("live") / "data") as running:
        yield running


async def command(cluster: Up, *words: object) -> str:
    done = await asyncio.to_thread(atria, *words, "--data", cluster.data)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def called(cluster: Up, calling_ae: str, *syntaxes: str) -> Association:
    return await connect(
        cluster.ready["dicom"]["host"],
        cluster.ready["dicom"]["port"],
        calling_ae=calling_ae,
        called_ae="ATRIA",
        contexts=[ProposedContext(syntax, (EXPLICIT,)) for syntax in syntaxes],
        limits=UpperLayerLimits(),
    )


async def moved(cluster: Up, study: str, destination: str) -> int:
    wanted = identifier("STUDY", StudyInstanceUID=study)
    async with await called(cluster, "TESTER", uids.STUDY_ROOT_MOVE) as association:
        *_, final = [
            response async for response in client.move(association, uids.STUDY_ROOT_MOVE, wanted, destination)
        ]
    assert final.status is not None
    return final.status


async def why_rejected(cluster: Up, calling_ae: str) -> tuple[int, int, int] | None:
    try:
        async with await called(cluster, calling_ae, uids.VERIFICATION) as association:
            assert await client.echo(association) == 0
    except AssociationRejected as error:
        return error.result, error.source, error.reason
    return None


async def pids(cluster: Up) -> dict[str, int]:
    return {one.name: one.pid for one in (await asyncio.to_thread(cluster.look)).processes}


async def followed(ask: Callable[[], Awaitable[T]], *, other_than: T) -> T:
    """Ask until the answer is another: there are several workers, and each follows by itself."""
    answers: list[T] = []
    async with soon(f"no answer is {other_than}", seen=lambda: answers):
        while True:
            answers = [await ask() for _ in range(4)]
            if other_than not in answers:
                return answers[-1]


async def test_a_destination_that_was_added_meanwhile_is_sent_to_and_one_that_was_removed_is_not(
    cluster: Up, images: list[Path]
) -> None:
    stored: set[str] = set()

    async def serve(association: Association) -> None:
        while True:
            message = await association.receive()
            assert message.data_set is not None
            await message.data_set.discard()
            stored.add(str(message.command.affected_sop_instance_uid))
            await association.send(message.context.context_id, reply(message.command, 0))

    await command(cluster, "send", *images)
    study = str(dcmread(images[0]).StudyInstanceUID)
    processes = await pids(cluster)
    async with listening(serve) as there:
        assert await moved(cluster, study, "NEW") == 0xA801
        await command(cluster, "ae", "add", "NEW", "--host", there.host, "--port", there.port)
        assert await followed(lambda: moved(cluster, study, "NEW"), other_than=0xA801) == 0
        assert len(stored) == len(images)
        await command(cluster, "ae", "remove", "NEW")
        assert await followed(lambda: moved(cluster, study, "NEW"), other_than=0) == 0xA801
    assert await pids(cluster) == processes


async def test_who_is_not_known_is_rejected_for_good_as_soon_as_the_settings_say_so(cluster: Up) -> None:
    assert await why_rejected(cluster, "STRANGER") is None
    await command(cluster, "settings", "set", "dicom.check_calling_ae_title", "true")
    try:
        unknown: tuple[int, int, int] | None = (1, 1, 3)
        assert await followed(lambda: why_rejected(cluster, "STRANGER"), other_than=None) == unknown
        await command(cluster, "ae", "add", "STRANGER")
        assert await followed(lambda: why_rejected(cluster, "STRANGER"), other_than=unknown) is None
        assert await why_rejected(cluster, "ANOTHER") == unknown
    finally:
        await command(cluster, "settings", "unset", "dicom.check_calling_ae_title")


async def test_a_file_that_a_hand_edit_broke_is_said_and_what_held_before_still_does(cluster: Up) -> None:
    await command(cluster, "settings", "set", "dicom.check_called_ae_title", "true")
    file, log = cluster.data / "atria.toml", cluster.data / "logs" / "worker-1.log"
    good = file.read_text()
    try:
        await until(lambda: "dicom.check_called_ae_title" in log.read_text(), seen=log.read_text)
        unknown: tuple[int, int, int] | None = (1, 1, 3)  # by the settings of the test before
        assert await followed(lambda: why_rejected(cluster, "CT1"), other_than=unknown) is None
        file.write_text(good + "\n[limits]\nassociations = 0\n")
        await until(
            lambda: "limits.associations: expected greater than 0" in log.read_text(), seen=log.read_text
        )
        refused = await asyncio.to_thread(atria, "ae", "add", "CT9", "--data", cluster.data)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"atria: settings: {file}: limits.associations: expected greater")
        assert await why_rejected(cluster, "CT1") is None
    finally:
        file.write_text(good)
    await command(cluster, "settings", "unset", "dicom.check_called_ae_title")


async def test_what_a_hand_edit_changed_is_in_the_history_without_a_command(cluster: Up) -> None:
    await command(cluster, "ae", "add", "CT1")
    file = cluster.data / "atria.toml"
    file.write_text(file.read_text().replace("CT1", "CT2"))
    folder = cluster.data / "settings-history"

    def noted() -> bool:
        *_, last = sorted(folder.glob("0*.json"))
        return "CT2" in last.read_text()

    await until(noted, "the history has the hand edit", seen=lambda: sorted(folder.iterdir()))
    newest, former, *_ = json.loads(await command(cluster, "settings", "history", "--json"))
    assert (newest["changed_by"], newest["change"]) == ("", "the settings file was edited by hand")
    assert former["change"] == "AE CT1 added"
