"""The peers that Atria is compared with, each in a process of its own, listening on loopback.

DCMTK switches Nagle's algorithm off only when the environment says `TCP_NODELAY=1`; Orthanc's receiver is
DCMTK's, and its setting `TcpNoDelay` is that of its HTTP server.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench.processes import free_port, running, wait_for_port

_NO_DELAY: Final = {"TCP_NODELAY": "1"}


@contextlib.contextmanager
def module(name: str, folder: Path, *arguments: str) -> Iterator[int]:
    """Run one of this package's receivers; give its port."""
    port = free_port()
    command = [sys.executable, "-m", f"tests.bench.{name}", str(port), *arguments]
    with running(command, folder=folder) as process:
        wait_for_port(process, port)
        yield port


@contextlib.contextmanager
def dcmtk(program: Path, folder: Path, max_pdu_bytes: int) -> Iterator[int]:
    """Run DCMTK's `storescp --ignore`, which forks for each association; give its port."""
    port = free_port()
    command: list[str | Path] = [
        program,
        "--fork",
        "--ignore",
        "--quiet",
        "--max-pdu",
        str(max_pdu_bytes),
        str(port),
    ]
    with running(command, folder=folder, environment=_NO_DELAY) as process:
        wait_for_port(process, port)
        yield port


@contextlib.contextmanager
def orthanc(program: Path, folder: Path) -> Iterator[int]:
    """Run Orthanc with its SQLite index, both in `folder`; anybody may find; all else as it comes."""
    port = free_port()
    data = folder / "orthanc"
    data.mkdir(exist_ok=True)
    configuration = folder / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "bench",
                "StorageDirectory": str(data),
                "IndexDirectory": str(data),
                "DicomAet": "ORTHANC",
                "DicomPort": port,
                "HttpServerEnabled": False,
                "DicomAlwaysAllowFind": True,
                "TcpNoDelay": True,
                "Plugins": [],
            }
        ),
        "utf-8",
    )
    with running([program, configuration], folder=folder, environment=_NO_DELAY) as process:
        wait_for_port(process, port)
        yield port
