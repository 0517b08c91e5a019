"""The steps of the demo: each does something to a cluster, and looks whether what was promised held."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from chaos.host import Host
    from cluster.coordination.registry import Member
    from deploy.client.files import DicomFile
    from deploy.client.locate import Located
    from deploy.client.peer import Peer
    from deploy.client.send import Sent
    from storage_node.upkeep.verify import Verification

_FIRST_AWAY, _NEXT_AWAY, _LEFT = "a", "b", "c"
_ALL_COPIES_TIMEOUT_S: Final = 40.0
_RESTART_TIMEOUT_S: Final = 20.0
_KILLS: Final = 3
"""Workers that are killed at most until one is met that was receiving: which do is the balancer's choice."""
_POLL_S: Final = 0.2
_ATTEMPTS: Final = 8
_STUDY_ROOT: Final = "study"


class NotHeld(Exception):
    """Something that was promised did not happen; the message says what."""


class Story:
    """What happens to one cluster.

    Parameters
    ----------
    host : Host
        Not started yet. Whoever runs the story ends it.
    folder : Path
        Where files are put that are sent and received.
    """

    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        self._folder = folder
        self._study_of: dict[DicomFile, str] = {}
        self._acknowledged: list[DicomFile] = []

    def steps(self) -> Sequence[tuple[str, Callable[[], Awaitable[str]]]]:
        """Return the steps in their order: what each does, and a function that does it.

        The function returns what came of it, or raises `NotHeld`.
        """
        return (
            ("gather the images that pydicom ships", self._gather),
            ("start a cluster: one balancer, two workers, three sites", self._start),
            ("send all studies but one", self._send_most),
            ("send that study, and kill a worker in the middle of it (SIGKILL)", self._send_and_kill),
            ("find each study, and count its instances", self._find),
            ("wait for every instance to be at all three sites", self._await_all_copies),
            (f"move site {_FIRST_AWAY} away, and store one more image", self._store_with_two_sites),
            (f"move site {_NEXT_AWAY} away too, and try to store another", self._store_with_one_site),
            (f"retrieve everything from site {_LEFT} alone, and compare each byte", self._retrieve),
            ("put both sites back, and wait for every instance to be at all three", self._heal),
            ("end the cluster (Ctrl-C)", self._end),
        )

    async def _gather(self) -> str:
        from chaos.real_files import gather
        from deploy.client.files import recognise

        folder = self._folder / "sent"
        folder.mkdir()
        real = gather(folder)
        self._study_of = {recognise(path): study for path, study in real.studies.items()}
        return (
            f"{len(self._study_of)} images; fresh UIDs for {real.shared} that share a SOP Instance UID and"
            f" {real.lacking} that lack a UID; {real.not_storable} files are no SOP instance"
        )

    async def _start(self) -> str:
        seconds = await self._host.start()
        return f"ready after {seconds:.1f} s at {self._host.dicom}"

    async def _send_most(self) -> str:
        return self._all_stored(await self._send(self._rest_and_largest()[0]))

    async def _send_and_kill(self) -> str:
        """Send a study and kill a worker meanwhile; again, if it was not one of those that received it."""
        study = self._rest_and_largest()[1]
        for attempt in range(_KILLS):
            workers = await self._host.workers()
            victim = workers[attempt % len(workers)]
            sent = await self._send_while_killing(victim, study)
            outcome = self._all_stored(sent)
            replaced = await self._host.until_replaced(victim, _RESTART_TIMEOUT_S)
            if sent.lost_associations:
                return (
                    f"{outcome}; {sent.lost_associations} association lost,"
                    f" {sent.resent} instance sent again;"
                    f" {victim.name} runs again (process {victim.pid} → {replaced.pid})"
                )
        raise NotHeld("no association was lost: no worker died in the middle of the study")

    async def _send_while_killing(self, victim: Member, study: Sequence[DicomFile]) -> Sent:
        settled = 0

        def on_settled(_: DicomFile) -> None:
            nonlocal settled
            settled += 1
            if settled == len(study) // 3:
                self._host.kill(victim)

        return await self._send(study, on_settled)

    async def _find(self) -> str:
        from deploy.client.find import find, open_finder

        async with await open_finder(self._peer(), _STUDY_ROOT) as association:
            found = {
                str(match.StudyInstanceUID): int(match.NumberOfStudyRelatedInstances)
                async for match in find(association, _STUDY_ROOT, "STUDY", {})
            }
        expected = Counter(self._study_of[file] for file in self._acknowledged)
        if found != expected:
            raise NotHeld(f"sent {dict(expected)}, found {found}")
        return f"{len(found)} studies with {sum(found.values())} instances, as sent"

    async def _await_all_copies(self) -> str:
        clock = asyncio.get_running_loop().time
        deadline = clock() + _ALL_COPIES_TIMEOUT_S
        while True:
            found = await self._verify()
            owed = sum(site.debts for site in found.sites)
            # What was refused may be there all the same, so there may be more than was acknowledged.
            if found.complete and not owed and found.versions >= len(self._acknowledged):
                return f"{found.versions} instances at each of {len(found.sites)} sites, and no debts"
            if clock() > deadline:
                raise NotHeld(f"not within {_ALL_COPIES_TIMEOUT_S:g} s: {found}")
            await asyncio.sleep(_POLL_S)

    async def _store_with_two_sites(self) -> str:
        self._host.take_away(_FIRST_AWAY)
        outcome = self._all_stored(await self._send([self._another()]))
        noted = {site.site: site.debts for site in (await self._verify()).sites if site.up}
        if not all(noted.values()):
            raise NotHeld(f"site {_FIRST_AWAY} is owed a copy; debts that are noted: {noted}")
        return f"{outcome}; sites {' and '.join(noted)} note that site {_FIRST_AWAY} is owed a copy"

    async def _store_with_one_site(self) -> str:
        self._host.take_away(_NEXT_AWAY)
        refused = self._another()
        sent = await self._send([refused], attempts=1)
        reasons = [one.reason for one in sent.failed]
        if sent.stored or not all("0xA700" in reason for reason in reasons):
            raise NotHeld(
                f"expected the status 0xA700, as two copies cannot be made; got {reasons or 'success'}"
            )
        return f"refused, as it must be: {reasons[0]}"

    async def _retrieve(self) -> str:
        from deploy.client.get import Getter

        located = await self._located()
        got = await Getter(
            self._peer(), self._folder / "received", attempts=_ATTEMPTS, on_received=lambda _: None
        ).get(located)
        if got.failed:
            raise NotHeld(f"{len(got.failed)} did not come: {next(iter(got.failed.values()))}")
        received = {instance.sop_instance_uid: path for instance, path in got.files.items()}
        wanting = [file for file in self._acknowledged if file.sop_instance_uid not in received]
        if wanting:
            raise NotHeld(f"{len(wanting)} acknowledged instances were not found: {wanting[0].path.name}")
        size_bytes = sum(_compare(file, received[file.sop_instance_uid]) for file in self._acknowledged)
        return f"{len(received)} instances, {size_bytes:,} bytes of data sets, each as it was sent"

    async def _heal(self) -> str:
        for site in (_FIRST_AWAY, _NEXT_AWAY):
            self._host.put_back(site)
        return await self._await_all_copies()

    async def _end(self) -> str:
        code = await self._host.end()
        if code != 0:
            raise NotHeld(f"exit code {code}")
        return "exit code 0"

    def _peer(self) -> Peer:
        from deploy.client.peer import Peer

        settings = self._host.settings
        return Peer(
            self._host.dicom.host,
            self._host.dicom.port,
            called_ae=settings.dicom.ae_title,
            calling_ae="DEMO",
            limits=settings.upper_layer_limits,
        )

    async def _send(
        self,
        files: Sequence[DicomFile],
        on_settled: Callable[[DicomFile], None] = lambda _: None,
        *,
        attempts: int = _ATTEMPTS,
    ) -> Sent:
        from deploy.client.send import Sender

        sender = Sender(self._peer(), associations=2, attempts=attempts, on_settled=on_settled)
        sent = await sender.send(files)
        self._acknowledged = list(dict.fromkeys([*self._acknowledged, *sent.stored]))
        return sent

    def _all_stored(self, sent: Sent) -> str:
        if sent.failed:
            first = sent.failed[0]
            raise NotHeld(
                f"{len(sent.failed)} were not stored, such as {first.file.path.name}: {first.reason}"
            )
        return f"{len(sent.stored)} acknowledged"

    def _rest_and_largest(self) -> tuple[list[DicomFile], list[DicomFile]]:
        """Divide the files into all other studies, and the one with the most instances."""
        ((largest, _),) = Counter(self._study_of.values()).most_common(1)
        rest = [file for file, study in self._study_of.items() if study != largest]
        return rest, [file for file, study in self._study_of.items() if study == largest]

    def _another(self) -> DicomFile:
        """Make one more instance of the largest study."""
        from pydicom import dcmread
        from pydicom.uid import generate_uid

        from deploy.client.files import recognise

        data_set = dcmread(self._rest_and_largest()[1][0].path)
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
        path = self._folder / "sent" / f"another-{data_set.SOPInstanceUID}.dcm"
        data_set.save_as(path)
        return recognise(path)

    async def _verify(self) -> Verification:
        from deploy import compose
        from storage_node.upkeep.verify import verify

        async with compose.running_grid(self._host.settings) as grid:
            return await verify(grid)

    async def _located(self) -> list[Located]:
        from deploy.client.find import open_finder
        from deploy.client.locate import locate

        async with await open_finder(self._peer(), _STUDY_ROOT) as association:
            return [instance async for instance in locate(association, {})]


def _compare(file: DicomFile, received: Path) -> int:
    """Return the size of the data set in both files.

    Raises
    ------
    NotHeld
        They differ, or their transfer syntaxes do.
    """
    from deploy.client.files import recognise

    back = recognise(received)
    sent, got = b"".join(file.data_set()), b"".join(back.data_set())
    if back.transfer_syntax_uid != file.transfer_syntax_uid:
        raise NotHeld(f"{file.path.name} came back in transfer syntax {back.transfer_syntax_uid}")
    if sent != got:
        raise NotHeld(
            f"{file.path.name} came back with another data set: {len(sent)} bytes sent, {len(got)} received"
        )
    return len(sent)
