"""The DICOM side of the cluster, those that it talks with, and its status pages."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cluster.settings.values import AeTitle, CharacterSet, Host, Port, Table


class Destination(Table):
    """An Application Entity that a C-MOVE may name."""

    ae_title: AeTitle
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    as_stored: bool = False
    """Send it what is stored, without what people have corrected."""


class Peer(Table):
    """An Application Entity that asks; what is not set is as `[dicom]` has it."""

    ae_title: AeTitle
    character_set: CharacterSet | None = None
    """Specific Character Set of the answers to its queries, where it has all their characters."""
    lenient_levels: bool | None = None
    """Whether its queries may leave out the unique keys of upper levels; else they fail with 0xA900."""
    show_rejected: bool = False
    """Whether it finds and retrieves what was rejected for quality reasons, too (IHE RAD IOCM)."""


class SharedDicom(Table):
    """How the cluster speaks DICOM, whichever of its hosts is called."""

    check_called_ae_title: bool = False
    """Reject associations to another called AE title: 1/1/7 (PS3.8 9.3.4)."""
    check_calling_ae_title: bool = False
    """Reject associations of a calling AE title that is neither a peer nor a destination: 1/1/3."""
    accept_unknown_storage: bool = True
    """Take an abstract syntax that is no known service as storage: private and retired classes too."""
    character_set: CharacterSet | None = None
    """Specific Character Set of answers to queries, where it has all their characters, whoever asks; that of
    the query when it is not set."""
    lenient_levels: bool = False
    """Whether queries may leave out the unique keys of upper levels; else they fail with 0xA900."""


class Dicom(SharedDicom):
    """The DICOM side of the cluster."""

    ae_title: AeTitle = "ATRIA"
    host: str = "127.0.0.1"
    port: Port = 11112


class Http(Table):
    """The status pages: `/metrics`, `/healthz`, `/readyz`, `/status`."""

    host: str = "127.0.0.1"
    port: Port = 8112
