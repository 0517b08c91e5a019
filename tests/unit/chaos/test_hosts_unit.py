from __future__ import annotations

import signal
from pathlib import Path

from chaos.hosts import unit
from chaos.hosts.privileges import Privileges

WORKER = """\
[Unit]
Description=Worker %i

[Service]
User=daemon
NoNewPrivileges=yes
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
UMask=0027
ExecStartPre=+/usr/bin/install -d '/srv/a folder'
Environment=ONE=1 'TWO=two words'
Environment=THREE=3
EnvironmentFile={file}
ExecStart=/opt/worker '--name=s1-worker-%i' --price=$$5
KillSignal=SIGINT
TimeoutStopSec=40
RestartSec=1
RestartPreventExitStatus=10 11
"""


def test_an_instance_is_read_from_its_template(tmp_path: Path) -> None:
    secret = tmp_path / "worker.env"
    secret.write_text("# who\nPASSWORD=a=b\n")
    (tmp_path / "worker@.service").write_text(WORKER.format(file=secret))
    found = unit.read(tmp_path, "worker@2.service")
    assert found.command == ("/opt/worker", "--name=s1-worker-2", "--price=$5")
    assert found.before == (("/usr/bin/install", "-d", "/srv/a folder"),)
    assert found.environment == {"ONE": "1", "TWO": "two words", "THREE": "3", "PASSWORD": "a=b"}
    assert (found.stop_signal, found.stop_timeout_s, found.restart_after_s) == (signal.SIGINT, 40.0, 1.0)
    assert found.stays_ended == {10, 11}
    two = frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW"})
    assert found.privileges == Privileges("daemon", two, two, no_new=True, umask=0o027)


def test_a_unit_that_says_nothing_runs_as_root_and_may_everything(tmp_path: Path) -> None:
    (tmp_path / "plain.service").write_text("[Service]\nExecStart=/bin/true\nRestartSec=1\n")
    assert unit.read(tmp_path, "plain.service").privileges == Privileges()


def test_root_is_left_as_it_is() -> None:
    assert Privileges(bounding=frozenset(), no_new=True).command("/bin/true") == ("/bin/true",)


def test_an_empty_bounding_set_leaves_no_capability(tmp_path: Path) -> None:
    text = "[Service]\nExecStart=/bin/true\nRestartSec=1\nCapabilityBoundingSet=\n"
    (tmp_path / "bare.service").write_text(text)
    assert unit.read(tmp_path, "bare.service").privileges.bounding == frozenset()


def test_folders_have_the_mode_and_the_owner_that_are_written(tmp_path: Path) -> None:
    (tmp_path / "tmpfiles.conf").write_text("# what is kept\nd /var/lib/atria 0755 atria atria\n")
    (found,) = unit.folders(tmp_path / "tmpfiles.conf")
    assert found == unit.Folder(Path("/var/lib/atria"), 0o755, "atria", "atria")


def test_a_target_names_what_runs(tmp_path: Path) -> None:
    (tmp_path / "all.target").write_text("[Unit]\nWants=b.service\nWants=a@1.service\n")
    assert unit.wanted(tmp_path, "all.target") == ["b.service", "a@1.service"]
