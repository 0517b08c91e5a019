"""C-FIND as SCU (PS3.4 C.4.1): keys by keyword in, data sets out."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

from cluster.dicom import uids
from cluster.dicom.transfer_syntaxes import IMPLICIT_VR_LE, SERVICE_ORDER
from deploy.client.statuses import meaning
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from pydicom import Dataset

    from cluster.dicom.association import Association
    from deploy.client.peer import Peer

FIND_MODELS: Final = {"study": uids.STUDY_ROOT_FIND, "patient": uids.PATIENT_ROOT_FIND}
LEVELS: Final = ("PATIENT", "STUDY", "SERIES", "IMAGE")

_RETURN_KEYS: Final = {
    "PATIENT": ("PatientID", "PatientName", "NumberOfPatientRelatedStudies"),
    "STUDY": (
        "PatientID",
        "StudyInstanceUID",
        "StudyDate",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
    ),
    "SERIES": (
        "SeriesInstanceUID",
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
    ),
    "IMAGE": ("SOPInstanceUID", "InstanceNumber", "SOPClassUID", "AvailableTransferSyntaxUID"),
}


def parse_keys(words: list[str]) -> dict[str, str]:
    """Read `Keyword=value` words. A word without `=` is a key that is only asked for.

    Raises
    ------
    UserError
        A word is no keyword of the data dictionary (PS3.6).
    """
    from pydicom.datadict import tag_for_keyword

    keys: dict[str, str] = {}
    for word in words:
        keyword, _, value = word.partition("=")
        if tag_for_keyword(keyword) is None:
            raise UserError(
                f"{keyword!r} is no attribute's keyword: write it as PatientID or StudyDate=20200101-"
            )
        keys[keyword] = value
    return keys


def identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    """Return the Identifier of a query: the keys, and what is shown of each match (PS3.4 C.4.1.1.3)."""
    from pydicom import Dataset
    from pydicom.config import disable_value_validation

    values = Dataset()
    with disable_value_validation():  # what a key may be is for the peer to say
        for keyword in _RETURN_KEYS[level]:
            setattr(values, keyword, None)
        for keyword, value in keys.items():
            setattr(values, keyword, value.split("\\") if "\\" in value else value)
    values.QueryRetrieveLevel = level
    if not all(value.isascii() for value in keys.values()):
        values.SpecificCharacterSet = "ISO_IR 192"
    return values


def encode(values: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return a data set's bytes, in one of the two little-endian transfer syntaxes."""
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    out = DicomBytesIO()
    out.is_little_endian = True
    out.is_implicit_VR = transfer_syntax_uid == IMPLICIT_VR_LE
    write_dataset(out, values)
    return out.getvalue()


def decode(data_set: bytes, transfer_syntax_uid: str) -> Dataset:
    """Read a data set's bytes, in one of the two little-endian transfer syntaxes."""
    from pydicom.filereader import read_dataset

    return read_dataset(BytesIO(data_set), transfer_syntax_uid == IMPLICIT_VR_LE, is_little_endian=True)


async def open_finder(peer: Peer, model: str) -> Association:
    """Open an association for queries.

    Raises
    ------
    UserError
        The peer cannot be reached, or takes no queries.
    """
    from cluster.dicom.faults import AssociationEnded
    from cluster.dicom.requestor import AssociationRejected, ProposedContext

    uid = FIND_MODELS[model]
    try:
        association = await peer.connect([ProposedContext(uid, SERVICE_ORDER)])
    except (AssociationRejected, AssociationEnded) as error:
        raise UserError(f"{peer}: {error}") from error
    except OSError as error:
        raise UserError(f"{peer} cannot be reached: {error.strerror or error}: is it running?") from error
    if not association.contexts_for(uid):
        await association.release()
        raise UserError(f"{peer} takes no queries of the {model} root model")
    return association


async def find(
    association: Association,
    model: str,
    level: str,
    keys: Mapping[str, str],
    on_comment: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Dataset]:
    """Yield what matches.

    Parameters
    ----------
    association : Association
        Of `open_finder`.
    model, level : str
        Of `FIND_MODELS` and `LEVELS`.
    keys : mapping of str to str
        By keyword.
    on_comment : callable
        Told of the Error Comment (0000,0902) of a query that succeeded: something may be missing.

    Raises
    ------
    UserError
        The peer answers that the query failed.
    AssociationEnded
    """
    from cluster.dicom import client

    uid = FIND_MODELS[model]
    syntax = association.contexts_for(uid)[0].transfer_syntax
    async for response, found in client.find(association, uid, encode(identifier(level, keys), syntax)):
        if found is not None:
            yield decode(found, syntax)
        elif response.status != 0:
            raise UserError(f"the query failed: {meaning(response.status or 0, response.error_comment)}")
        elif response.error_comment:
            on_comment(response.error_comment)
