from __future__ import annotations

import signal
from pathlib import Path

from chaos.hosts import unit

WORKER = """\
[Unit]
Description=Worker %i

[Service]
User=root
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
    assert found.account is None


def test_a_target_names_what_runs(tmp_path: Path) -> None:
    (tmp_path / "all.target").write_text("[Unit]\nWants=b.service\nWants=a@1.service\n")
    assert unit.wanted(tmp_path, "all.target") == ["b.service", "a@1.service"]
