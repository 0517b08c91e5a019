"""A storage node in this process, over real sites in a temporary folder; DCMTK is its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.dicom.acceptor import Acceptor
from cluster.dicom.association import Association
from cluster.dicom.negotiation import AcceptancePolicy
from cluster.dicom.requestor import ProposedContext, connect
from cluster.settings import Settings, load
from cluster.settings.live import LiveSettings
from deploy import compose, making
from storage_node.grid.grid import Grid
from storage_node.services.service import Services
from tests.tools import dcmtk

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@dataclass(frozen=True)
class Node:
    settings: Settings
    grid: Grid
    port: int

    async def connect(self, *contexts: ProposedContext) -> Association:
        return await connect(
            "127.0.0.1",
            self.port,
            calling_ae="TESTER",
            called_ae="ATRIA",
            contexts=contexts,
            limits=self.settings.upper_layer_limits,
        )

    async def dcmtk(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run one of DCMTK's programs against the node, and return what it printed; it must succeed."""
        code, output = await self.dcmtk_result(program, *arguments, cwd=cwd)
        assert code == 0, output
        return output

    async def dcmtk_result(
        self, program: str, *arguments: str | Path, cwd: Path | None = None
    ) -> tuple[int, str]:
        path = dcmtk(program)
        if path is None:
            pytest.skip(f"{program} of DCMTK is not installed (Debian package dcmtk)")
        process = await asyncio.create_subprocess_exec(
            path,
            *map(str, (*arguments[:-1], arguments[-1])) if arguments else (),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        return process.returncode or 0, output.decode("latin-1")


@asynccontextmanager
async def running_node(folder: Path, **overrides: object) -> AsyncIterator[Node]:
    settings = load(None, data_folder=folder, **overrides)
    making.prepare(settings)
    async with compose.running_grid(settings) as grid:
        services = Services(LiveSettings(settings), grid)
        policy = AcceptancePolicy(ae_title=settings.dicom.ae_title)
        acceptor = Acceptor(policy, settings.upper_layer_limits, services.serve)
        _, port = await acceptor.listen("127.0.0.1", 0)
        try:
            yield Node(settings, grid, port)
        finally:
            await acceptor.drain(0)


def arguments(node: Node, *options: str) -> Sequence[str]:
    return [*options, "-aec", "ATRIA", "127.0.0.1", str(node.port)]
