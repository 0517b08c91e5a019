"""Finds out which instances a retrieval is about, and in which transfer syntax each is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.dicom.transfer_syntaxes import SERVICE_ORDER
from deploy.client.find import find

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydicom import Dataset

    from cluster.dicom.association import Association

_MODEL = "study"
_BELOW_STUDY = ("SeriesInstanceUID", "SOPInstanceUID")


@dataclass(frozen=True, slots=True)
class Located:
    """An instance that the peer holds."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uids: tuple[str, ...]
    """What the peer can send without transcoding (0008,3002); the native ones, where it does not say."""


async def locate(association: Association, keys: Mapping[str, str]) -> AsyncIterator[Located]:
    """Yield the instances that match, by queries from study level down (PS3.4 C.4.1.2.1).

    Parameters
    ----------
    association : Association
        Open for queries of the study root model.
    keys : mapping of str to str
        Keys of study level, and UIDs of any level, by keyword.
    """
    above = {keyword: value for keyword, value in keys.items() if keyword not in _BELOW_STUDY}
    series_uid, sop_uid = (keys.get(keyword, "") for keyword in _BELOW_STUDY)
    async for study in _all(association, "STUDY", {"StudyInstanceUID": "", **above}):
        uids = {"StudyInstanceUID": str(study.StudyInstanceUID), "SeriesInstanceUID": series_uid}
        async for series in _all(association, "SERIES", uids):
            uids = {**uids, "SeriesInstanceUID": str(series.SeriesInstanceUID), "SOPInstanceUID": sop_uid}
            async for image in _all(association, "IMAGE", uids):
                yield Located(
                    uids["StudyInstanceUID"],
                    uids["SeriesInstanceUID"],
                    str(image.SOPInstanceUID),
                    str(image.SOPClassUID),
                    _values(image, "AvailableTransferSyntaxUID") or SERVICE_ORDER,
                )


async def _all(association: Association, level: str, keys: Mapping[str, str]) -> AsyncIterator[Dataset]:
    # One query at a time on an association: all answers are taken before the next is asked.
    for found in [found async for found in find(association, _MODEL, level, keys)]:
        yield found


def _values(found: Dataset, keyword: str) -> tuple[str, ...]:
    value = found.get(keyword)
    if not value:
        return ()
    return (str(value),) if isinstance(value, str) else tuple(map(str, value))
