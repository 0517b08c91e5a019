"""Rows as a worker makes them of the bench's CT image, of studies of the population."""

from __future__ import annotations

import functools
import hashlib

from cluster.dicom.elements import Element, Elements, pack
from cluster.dicom.header import HeaderReader
from cluster.nouns import Instance, Provenance, Version
from storage_node.catalogue.protocol import Row
from tests.bench import instances
from tests.bench.population import Study

_DATA_SET_OFFSET_BYTES = 340
_UIDS = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
_INSTANCE_NUMBER = 0x00200013


def ct_row(study: Study, instance: int = 0) -> Row:
    """Return the row of one instance of a study, with a whole header."""
    sop = study.sop_instance_uid(instance)
    uids = (instances.CT_IMAGE_STORAGE, sop, study.study_instance_uid, study.series_instance_uid)
    values = {**study.values, **dict(zip(_UIDS, uids, strict=True)), _INSTANCE_NUMBER: str(instance + 1)}
    elements = _ct_elements()
    own = {tag: elements[tag]._replace(value=_encoded(tag, value)) for tag, value in values.items()}
    packed = pack({**elements, 0x00080005: Element("CS", b"ISO_IR 192"), **own})
    digest = hashlib.sha256(packed).hexdigest()
    version = Version(
        instance=Instance(study.study_instance_uid, study.series_instance_uid, sop),
        digest=digest,
        key=f"{study.study_instance_uid}/{study.series_instance_uid}/{sop}/{digest}.dcm",
        size_bytes=_DATA_SET_OFFSET_BYTES + instances.FRAME_BYTES + 2000,
        data_set_offset_bytes=_DATA_SET_OFFSET_BYTES,
        sop_class_uid=instances.CT_IMAGE_STORAGE,
        transfer_syntax_uid=instances.EXPLICIT_VR_LITTLE_ENDIAN,
    )
    return Row(version, Provenance(study.received_at, "BENCH", "ATRIA", "10.0.0.1:11112"), packed)


@functools.cache
def _ct_elements() -> Elements:
    """Read the header of a CT image of the bench, as a worker does."""
    made = instances.ct_image(instances.uids(0, 0, 0))
    reader = HeaderReader(instances.EXPLICIT_VR_LITTLE_ENDIAN)
    reader.feed(memoryview(made.header + bytes(made.pixel_bytes)))
    reader.close()
    return reader.elements


def _encoded(tag: int, value: str) -> bytes:
    encoded = value.encode("utf-8")
    return encoded + (b"\0" if tag in _UIDS else b" ") * (len(encoded) % 2)
