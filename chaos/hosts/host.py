"""One host: it boots from what was rendered for it, fails, and comes back."""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING

from chaos.hosts import unit
from chaos.hosts.privileges import Privileges
from chaos.hosts.service import Service
from chaos.hosts.story import short
from deploy.render import places, units

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from chaos.hosts.network import Network
    from chaos.hosts.story import Journal


class Host:
    """One host of a network.

    Parameters
    ----------
    name : str
    network : Network
    folder : Path
        What was rendered for it.
    user : str
        Whom commands are run as.
    logs : Path
        Where its units' logs go; made if it is not there.
    environment : mapping of str to str
        What all its processes have in theirs.
    journal : Journal
        Where it is noted what happens to it.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        folder: Path,
        user: str,
        logs: Path,
        environment: Mapping[str, str],
        journal: Journal,
    ) -> None:
        self.name = name
        self.config = folder / places.SETTINGS
        self._network = network
        self._note = journal.of(name)
        self._environment = dict(environment)
        self._privileges = Privileges(user)
        logs.mkdir(parents=True, exist_ok=True)
        for needed in unit.folders(folder / places.FOLDERS):
            needed.make()
        read = folder / places.UNITS
        self.services = {
            wanted: Service(
                unit.read(read, wanted),
                network[name],
                logs / f"{wanted}.log",
                environment,
                journal.of(f"{name} {short(wanted)}"),
            )
            for wanted in unit.wanted(read, units.TARGET)
        }

    def __getitem__(self, name: str) -> Service:
        """Return a unit: by its name, or by what stands in that (`balancer`, `worker@1`)."""
        whole = name if name.endswith(".service") else f"{name}.service"
        return self.services.get(whole) or self.services[f"atria-{whole}"]

    async def start(self, which: Callable[[str], bool] = lambda _: True) -> None:
        """Start its units, or some of them, at once."""
        chosen = (service for name, service in self.services.items() if which(name))
        await asyncio.gather(*(service.start() for service in chosen))

    async def power_off(self) -> None:
        """Switch it off: nothing more goes out, and everything on it ends at once."""
        self._note("is switched off")
        self._network.unplug(self.name)
        await asyncio.gather(*(service.kill() for service in self.services.values()))
        self._network.reset(self.name)

    async def end(self) -> None:
        """End everything on it for good, at once.

        PostgreSQL is asked to: killed, it leaves shared memory that only its next start removes, on the
        machine that all hosts share.
        """
        await asyncio.gather(
            *(
                service.stop() if name == units.POSTGRESQL else service.kill()
                for name, service in self.services.items()
            )
        )

    async def power_on(self) -> None:
        """Switch it on: it starts what it is for."""
        self._note("is switched on")
        self._network.plug_in(self.name)
        await self.start()

    async def mend(self) -> None:
        """Have everything run that is to run here, whatever was done to it."""
        for service in self.services.values():
            if service.pid is not None:
                service.send(signal.SIGCONT)
        await self.power_on()

    async def run(self, *command: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command on it to its end."""
        self._note(f"is told: {shlex.join(command)}")
        process = self._launched(command)
        try:
            out, err = await asyncio.to_thread(process.communicate, timeout=timeout_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def _launched(self, command: Sequence[str]) -> subprocess.Popen[str]:
        with self._network[self.name].entered():
            return subprocess.Popen(  # noqa: S603  what the drill names
                self._privileges.command(*command),
                env=self._environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
