"""Key Object Selection Documents, as a modality or a workstation sends them to reject instances."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from cluster.dicom import uids
from cluster.dicom.association import Association
from cluster.dicom.command_set import CommandSet
from cluster.nouns import Instance
from tests.integration.services.instances import store

NOTE = "1.2.99.1"
QUALITY, PATIENT_SAFETY, WRONG_WORKLIST_ENTRY, EXPIRED = "113001", "113037", "113038", "113039"


def encoded(data_set: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def document(
    code: str,
    rejected: Sequence[Instance] = (),
    *,
    sop: str = NOTE,
    scheme: str = "DCM",
    content: Sequence[str] = (),
) -> Dataset:
    """A note that names instances in its evidence, and others in its content only."""
    note = Dataset()
    note.SOPClassUID, note.SOPInstanceUID = uids.KEY_OBJECT_SELECTION, sop
    note.StudyInstanceUID, note.SeriesInstanceUID = "1.2", "1.2.99"
    note.Modality = "KO"
    note.ConceptNameCodeSequence = [_code(code, scheme)]
    note.CurrentRequestedProcedureEvidenceSequence = [_study(instance) for instance in rejected]
    container = Dataset()
    container.RelationshipType, container.ValueType = "CONTAINS", "CONTAINER"
    container.ContentSequence = [_image(uid) for uid in content]
    note.ContentSequence = [container]
    return note


def _code(value: str, scheme: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, "whatever"
    return code


def _study(instance: Instance) -> Dataset:
    study, series, sop = Dataset(), Dataset(), Dataset()
    sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = "1.2.3", instance.sop_instance_uid
    series.SeriesInstanceUID, series.ReferencedSOPSequence = instance.series_instance_uid, [sop]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = instance.study_instance_uid, [series]
    return study


def _image(uid: str) -> Dataset:
    item, sop = Dataset(), Dataset()
    sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = "1.2.3", uid
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = [sop]
    return item


async def send(association: Association, note: Dataset) -> CommandSet:
    return await store(
        association, encoded(note), sop=str(note.SOPInstanceUID), sop_class=uids.KEY_OBJECT_SELECTION
    )
