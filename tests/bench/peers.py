"""The peers that Atria is compared with, each in a process of its own, listening on loopback.

DCMTK switches Nagle's algorithm off only when the environment says `TCP_NODELAY=1`; Orthanc's receiver is
DCMTK's, and its setting `TcpNoDelay` is that of its HTTP server.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from balancer.pipes import PIPE_BYTES
from tests.bench.processes import free_port, running, wait_for_port

_HAPROXY: Final = """\
global
  nbthread 1
  tune.pipesize {pipe_bytes}
defaults
  mode tcp
{splicing}
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen dicom
  bind 127.0.0.1:{port}
  server worker 127.0.0.1:{worker_port} send-proxy-v2
"""
_SPLICES_WHERE_IT_SEES_FIT: Final = "  option splice-auto"
_ALWAYS_SPLICES: Final = "  option splice-request\n  option splice-response"
_NO_DELAY: Final = {"TCP_NODELAY": "1"}


@dataclass(frozen=True, slots=True)
class Measured:
    """A process whose time or memory is measured."""

    port: int
    pid: int


@contextlib.contextmanager
def module(name: str, folder: Path, *arguments: str) -> Iterator[int]:
    """Run one of this package's receivers; give its port."""
    port = free_port()
    command = [sys.executable, "-m", f"tests.bench.{name}", str(port), *arguments]
    with running(command, folder=folder) as process:
        wait_for_port(process, port)
        yield port


@contextlib.contextmanager
def measured(name: str, folder: Path, *arguments: str) -> Iterator[Measured]:
    """Run one of this package's programs; give its port, and its process id."""
    port = free_port()
    command = [sys.executable, "-m", f"tests.bench.{name}", str(port), *arguments]
    with running(command, folder=folder) as process:
        wait_for_port(process, port)
        yield Measured(port, process.pid)


@contextlib.contextmanager
def haproxy(program: Path, folder: Path, worker_port: int, *, always_splices: bool) -> Iterator[Measured]:
    """Run HAProxy, on one thread, before a worker that wants a PROXY protocol header.

    Left to itself (`option splice-auto`) it splices only what its heuristics take for a stream.
    """
    port = free_port()
    configuration = folder / f"haproxy-{port}.cfg"
    configuration.write_text(
        _HAPROXY.format(
            port=port,
            worker_port=worker_port,
            pipe_bytes=PIPE_BYTES,
            splicing=_ALWAYS_SPLICES if always_splices else _SPLICES_WHERE_IT_SEES_FIT,
        ),
        "utf-8",
    )
    with running([program, "-db", "-f", configuration], folder=folder) as process:
        wait_for_port(process, port)
        yield Measured(port, process.pid)


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
