"""What an instance says of itself, read from its bytes: the same when they arrive and when they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.dicom.elements import pack
from cluster.dicom.header import HeaderReader
from cluster.nouns import Instance
from storage_node.grid.arrival import Arrival

if TYPE_CHECKING:
    from cluster.nouns import Buffer, Provenance


class Description:
    """The header of one data set, as far as it has been read.

    Parameters
    ----------
    sop_class_uid : str
        By the command that it comes with, or the File Meta Information that it is kept with.
    transfer_syntax_uid : str
    header_limit_bytes : int
        How much of the header a catalogue keeps.
    """

    def __init__(self, sop_class_uid: str, transfer_syntax_uid: str, *, header_limit_bytes: int) -> None:
        self._sop_class_uid = sop_class_uid
        self._transfer_syntax_uid = transfer_syntax_uid
        self.header = HeaderReader(transfer_syntax_uid, limit_bytes=header_limit_bytes)

    @property
    def instance(self) -> Instance | None:
        """Which instance it is, as soon as that has been read."""
        header = self.header
        study, series, sop = (
            header.study_instance_uid,
            header.series_instance_uid,
            header.sop_instance_uid,
        )
        return Instance(study, series, sop) if study and series and sop else None

    @property
    def flags(self) -> tuple[str, ...]:
        """What is odd about it so far, in words of one kind each."""
        missing = ("no_sop_class_uid",) if self.header.sop_class_uid is None else ()
        return (*self.header.flags, *missing)

    def feed(self, data: Buffer) -> None:
        """Take the next bytes of the data set.

        Raises
        ------
        HeaderError
            The structure cannot be followed, and the identity has not been read.
        """
        self.header.feed(data)

    def arrival(self, provenance: Provenance, *, data_set_offset_bytes: int) -> Arrival:
        """Return it as what is stored. Its identity must have been read.

        Parameters
        ----------
        provenance : Provenance
        data_set_offset_bytes : int
            Where in its Part 10 file the data set begins.
        """
        instance = self.instance
        assert instance is not None
        return Arrival(
            instance=instance,
            sop_class_uid=self._sop_class_uid,
            transfer_syntax_uid=self._transfer_syntax_uid,
            data_set_offset_bytes=data_set_offset_bytes,
            provenance=provenance,
            header=pack(self.header.elements),
            flags=self.flags,
        )
