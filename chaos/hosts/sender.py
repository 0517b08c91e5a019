"""Associations that send throughout: instance after instance, until a time is over, and then a release."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.dicom import client, requestor
from cluster.dicom.faults import AssociationEnded, LocalProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.requestor import AssociationRejected, ProposedContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster.coordination.registry import Address

_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one association."""

    stored: tuple[str, ...]
    """SOP Instance UIDs that were acknowledged with success."""
    fault: str | None
    """Why it did not end with success; None if it did."""


async def send_throughout(
    address: Address,
    seconds: float,
    *,
    called_ae: str = "ATRIA",
    pause_s: float = 0.05,
    pixel_bytes: int = 16 * 1024,
) -> Sent:
    """Send one new instance after the other over one association, for so many seconds; then release it.

    Parameters
    ----------
    address : Address
    seconds : float
    called_ae : str
    pause_s : float
        Between an answer and the next instance.
    pixel_bytes : int
        Of each instance.
    """
    clock = asyncio.get_running_loop().time
    stored: list[str] = []
    end_s = clock() + seconds
    try:
        association = await requestor.connect(
            address.host,
            address.port,
            calling_ae="SENDER",
            called_ae=called_ae,
            contexts=(ProposedContext(_CT, (_EXPLICIT_VR_LITTLE_ENDIAN,)),),
            limits=UpperLayerLimits(),
        )
        async with association:
            for uid, data_set in _instances(pixel_bytes):
                answer = await client.store(
                    association,
                    sop_class_uid=_CT,
                    sop_instance_uid=uid,
                    transfer_syntax_uid=_EXPLICIT_VR_LITTLE_ENDIAN,
                    data_set=[data_set],
                )
                if answer.status != 0:
                    return Sent(
                        tuple(stored), f"C-STORE answered {answer.status:04X}H ({answer.error_comment})"
                    )
                stored.append(uid)
                if clock() >= end_s:
                    break
                await asyncio.sleep(pause_s)
    except (OSError, AssociationEnded, AssociationRejected, LocalProtocolError) as error:
        return Sent(tuple(stored), f"{type(error).__name__}: {error}")
    return Sent(tuple(stored), None)


def _instances(pixel_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the SOP Instance UIDs and data sets of a series that never ends."""
    from pydicom import Dataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset
    from pydicom.uid import generate_uid

    data_set = Dataset()
    data_set.SOPClassUID = _CT
    data_set.PatientName, data_set.PatientID = "Drill^Hosts", "DRILL"
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID = generate_uid(), generate_uid()
    data_set.Modality = "CT"
    data_set.Rows, data_set.Columns = 1, pixel_bytes // 2
    data_set.BitsAllocated = data_set.BitsStored = 16
    data_set.HighBit, data_set.PixelRepresentation = 15, 0
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    number = 0
    while True:
        number += 1
        data_set.SOPInstanceUID, data_set.InstanceNumber = generate_uid(), number
        data_set.PixelData = number.to_bytes(4, "little") * (pixel_bytes // 4)
        data_set["PixelData"].VR = "OW"
        out = DicomBytesIO()
        out.is_little_endian, out.is_implicit_VR = True, False
        write_dataset(out, data_set)
        yield data_set.SOPInstanceUID, out.getvalue()
