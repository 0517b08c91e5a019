"""Whom a command calls, and as whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy import compose
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.dicom.association import Association
    from cluster.dicom.limits import UpperLayerLimits
    from cluster.dicom.requestor import ProposedContext
    from cluster.settings import Settings


@dataclass(frozen=True, slots=True)
class Peer:
    """An Application Entity to call."""

    host: str
    port: int
    called_ae: str
    calling_ae: str
    limits: UpperLayerLimits

    def __str__(self) -> str:
        """Return it as messages name it."""
        return f"{self.called_ae} at {self.host}:{self.port}"

    async def connect(self, contexts: Sequence[ProposedContext]) -> Association:
        """Open an association.

        Raises
        ------
        AssociationRejected, AssociationEnded, OSError
        """
        from cluster.dicom.requestor import connect

        return await connect(
            self.host,
            self.port,
            calling_ae=self.calling_ae,
            called_ae=self.called_ae,
            contexts=contexts,
            limits=self.limits,
        )


async def resolve(settings: Settings, to: str | None, called: str | None, calling: str) -> Peer:
    """Return whom to call: the one that was named, or the balancer of the cluster in the data folder.

    Raises
    ------
    UserError
        The address cannot be read, or no cluster runs there.
    """
    limits = settings.upper_layer_limits
    called_ae = called or settings.dicom.ae_title
    if to is not None:
        host, port = parse_address(to)
        return Peer(host, port, called_ae, calling, limits)
    for member in await compose.members(settings, "balancer"):
        if member.dicom is not None:
            return Peer(member.dicom.host, member.dicom.port, called_ae, calling, limits)
    raise UserError(
        f"no cluster runs in {settings.data_folder}: start one with `atria up`, or name another with --to"
    )


def parse_address(text: str) -> tuple[str, int]:
    """Read `host:port` or `[v6]:port`.

    Raises
    ------
    UserError
        It is neither.
    """
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--to {text}: expected HOST:PORT, such as 127.0.0.1:11112")
    return host, int(port)
