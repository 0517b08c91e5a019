"""`atria changes`, beside a cluster that runs."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from pydicom import dcmread

from tests.integration.deploy.atria import COMMAND, Up, atria, up
from tests.tools import dcmtk

TIMEOUT_S = 60


class Follower:
    """`atria changes --follow`, whose lines are read as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return _line(self.process.stdout)

    def error_line(self) -> str:
        assert self.process.stderr is not None
        return _line(self.process.stderr)

    def entries(self, count: int, study: str) -> list[dict[str, Any]]:
        """Return the next entries of a study; those of others are left out."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            entry = json.loads(self.line())
            found += [entry] if entry.get("study_instance_uid") == study else []
        return found

    def entries_until_complete(self, instances: int, study: str) -> list[dict[str, Any]]:
        """Return the next entries of a study until it is complete with so many instances.

        It may be said to be complete before: its sender paused for longer than that takes.
        """
        found = self.entries(instances + 1, study)
        while (last := found[-1])["kind"] != "study_complete" or last["instances"] < instances:
            found += self.entries(1, study)
        return [one for one in found[:-1] if one["kind"] != "study_complete"] + found[-1:]

    def end(self) -> tuple[int, str, str]:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out.decode(), err.decode()


def _line(stream: IO[bytes]) -> str:
    readable, _, _ = select.select([stream], [], [], TIMEOUT_S)
    assert readable, "nothing came"
    return stream.readline().decode()


@contextlib.contextmanager
def following(*arguments: object) -> Iterator[Follower]:
    with subprocess.Popen(
        [*COMMAND, "changes", "--follow", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as process:
        try:
            yield Follower(process)
        finally:
            if process.poll() is None:
                process.kill()


def study_of(images: list[Path]) -> str:
    return str(dcmread(images[0]).StudyInstanceUID)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings by which a study is soon complete."""
    file = tmp_path / "atria.toml"
    file.write_text("[changes]\npoll_interval_s = 0.05\nstudy_complete_after_s = 1.5\n")
    return file


def read_to_end(data: Path, *arguments: object) -> list[dict[str, Any]]:
    done = atria("changes", "--data", data, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def last_cursor(data: Path) -> list[object]:
    """Return the option that leaves out what other tests stored."""
    entries = read_to_end(data)
    return ["--after", entries[-1]["cursor"]] if entries else []


def test_what_is_stored_and_decided_comes_as_lines_and_the_study_is_complete(
    running: Up, images: list[Path], config: Path
) -> None:
    read = [dcmread(image) for image in images]
    study = study_of(images)
    with following("--data", running.data, "--config", config, "--complete", "--json") as follower:
        assert atria("send", "--to", running.address, *images).returncode == 0
        *versions, complete = follower.entries_until_complete(len(images), study)
        assert {entry["sop_instance_uid"] for entry in versions} == {one.SOPInstanceUID for one in read}
        assert {entry["kind"] for entry in versions} == {"version"}
        assert {entry["sop_class_uid"] for entry in versions} == {one.SOPClassUID for one in read}
        assert {entry["calling_ae"] for entry in versions} == {"ATRIA-SCU"}
        assert (complete["kind"], complete["study_instance_uid"]) == ("study_complete", study)
        assert complete["instances"] == len(images)
        sop = read[0].SOPInstanceUID
        assert atria("delete", sop, "--reason", "why", "--yes", "--data", running.data).returncode == 0
        (fact,) = follower.entries(1, study)
        assert (fact["kind"], fact["fact"], fact["sop_instance_uid"]) == ("fact", "deleted", sop)
        assert fact["reason"] == "why"
        assert follower.end() == (0, "", "")
    assert read_to_end(running.data, "--after", fact["cursor"]) == []
    assert [entry["kind"] for entry in read_to_end(running.data, "--after", complete["cursor"])] == ["fact"]


@pytest.mark.skipif(dcmtk("storescu") is None, reason="DCMTK is not installed (Debian package dcmtk)")
def test_what_another_sends_comes_at_every_site_in_its_own_sequence(running: Up, images: list[Path]) -> None:
    host, port = running.address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        followers = [
            stack.enter_context(following("--data", running.data, "--site", site, "--json")) for site in "abc"
        ]
        subprocess.run(
            [str(dcmtk("storescu")), "-aet", "SCANNER", "-aec", "ATRIA", host, port, str(images[0])],
            check=True,
        )
        entries = [follower.entries(1, study_of(images))[0] for follower in followers]
    assert {entry["sop_instance_uid"] for entry in entries} == {dcmread(images[0]).SOPInstanceUID}
    assert {entry["calling_ae"] for entry in entries} == {"SCANNER"}
    assert len({entry["cursor"].partition(".")[0] for entry in entries}) == 3


def test_a_person_reads_lines_and_is_told_how_to_go_on(running: Up, images: list[Path]) -> None:
    since = last_cursor(running.data)
    with following("--data", running.data, "--limit", len(images), *since) as follower:
        assert atria("send", "--to", running.address, *images).returncode == 0
        lines = [follower.line() for _ in images]
        out, err = follower.process.communicate(timeout=TIMEOUT_S)
    assert follower.process.returncode == 0
    assert err == b""
    assert {dcmread(image).SOPInstanceUID in "".join(lines) for image in images} == {True}
    assert out.decode().startswith("Go on with: atria changes --site a --after ")
    go_on = out.decode().split()[3:]
    assert atria(*go_on[1:], "--data", running.data).stdout == "Nothing came.\n"


def test_pages_go_on_where_the_last_ended(running: Up, images: list[Path]) -> None:
    since = last_cursor(running.data)
    assert atria("send", "--to", running.address, *images).returncode == 0
    first = read_to_end(running.data, "--limit", 4, *since)
    rest = read_to_end(running.data, "--after", first[-1]["cursor"])
    assert [*first, *rest] == read_to_end(running.data, *since)
    assert (len(first), len(rest)) == (4, len(images) - 4)


def test_a_reader_that_goes_away_ends_it_without_a_word(running: Up, images: list[Path]) -> None:
    assert atria("send", "--to", running.address, images[0]).returncode == 0
    with following("--data", running.data, "--json") as follower:
        follower.line()
        assert follower.process.stdout is not None
        follower.process.stdout.close()
        assert atria("send", "--to", running.address, images[1]).returncode == 0
        assert follower.process.stderr is not None
        assert follower.process.stderr.read() == b""
        assert follower.process.wait(TIMEOUT_S) == 1


def test_another_sites_cursor_and_no_site_are_told_apart(running: Up, images: list[Path]) -> None:
    assert atria("send", "--to", running.address, images[0]).returncode == 0
    cursor = read_to_end(running.data, "--site", "b")[-1]["cursor"]
    assert read_to_end(running.data, "--after", cursor) == read_to_end(running.data)
    refused = atria("changes", "--site", "z", "--data", running.data)
    assert refused.returncode == 2
    assert refused.stderr == "atria: there is no site z: choose one of a, b, c (--site)\n"


def test_a_site_that_is_away_is_said_once_and_gone_on_with_when_it_is_back(
    tmp_path: Path, images: list[Path], config: Path
) -> None:
    with up(tmp_path / "data") as cluster:
        folder, aside = tmp_path / "data/site-a", tmp_path / "data/aside"
        with following("--data", cluster.data, "--config", config, "--json") as follower:
            assert atria("send", "--to", cluster.address, images[0]).returncode == 0
            follower.entries(1, study_of(images))
            folder.rename(aside)
            assert follower.error_line().startswith("atria: site a: ")
            assert atria("send", "--to", cluster.address, images[1]).returncode == 0
            away = atria("changes", "--data", cluster.data)
            assert away.returncode == 2
            assert "read those of another (--site)" in away.stderr
            aside.rename(folder)
            assert follower.error_line() == "atria: it is back\n"
            (entry,) = follower.entries(1, study_of(images))
            assert entry["sop_instance_uid"] == dcmread(images[1]).SOPInstanceUID
            assert follower.end() == (0, "", "")
