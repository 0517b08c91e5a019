"""Rows for tests: of small instances whose headers have just what matters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cluster.dicom.elements import Element, pack
from cluster.nouns import Debt, Fact, FactKind, Instance, Provenance, Version
from storage_node.catalogue.protocol import Catalogue, Row

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
BEGIN = datetime(2024, 5, 17, 8, 0, tzinfo=UTC)

_TAGS = {
    "character_set": (0x00080005, "CS"),
    "sop_class": (0x00080016, "UI"),
    "study_date": (0x00080020, "DA"),
    "study_time": (0x00080030, "TM"),
    "accession_number": (0x00080050, "SH"),
    "modality": (0x00080060, "CS"),
    "name": (0x00100010, "PN"),
    "patient_id": (0x00100020, "LO"),
    "issuer": (0x00100021, "LO"),
    "series_number": (0x00200011, "IS"),
    "number": (0x00200013, "IS"),
    "description": (0x00081030, "LO"),
}


def header(**values: str | bytes | None) -> bytes:
    """Pack a header of the values that are not None."""
    return pack(
        {
            _TAGS[name][0]: Element(
                _TAGS[name][1], value if isinstance(value, bytes) else value.encode("utf-8")
            )
            for name, value in values.items()
            if value is not None
        }
    )


def row(
    study: str = "1.2.3",
    series: str = "1.2.3.1",
    sop: str = "1.2.3.1.1",
    *,
    content: str = "",
    minute: float = 0,
    sop_class: str = CT,
    order: int = 0,
    **values: str | bytes | None,
) -> Row:
    """Make a row; another `content` is another version, `minute` says when it was received."""
    values = {"name": "Doe^Jane", "patient_id": "P1", "modality": "CT", "sop_class": sop_class, **values}
    packed = header(**values)
    instance = Instance(study, series, sop)
    digest = hashlib.sha256(f"{instance} {content}".encode() + packed).hexdigest()
    version = Version(
        instance=instance,
        digest=digest,
        key=f"{study}/{series}/{sop}/{digest}.dcm",
        size_bytes=1000 + len(packed),
        data_set_offset_bytes=340,
        sop_class_uid=sop_class,
        transfer_syntax_uid=EXPLICIT,
    )
    received_at = BEGIN + timedelta(minutes=minute)
    return Row(
        version, Provenance(received_at, "SCANNER", "ATRIA", "10.0.0.1:104"), packed, ("odd_length",), order
    )


def debt(of: Row, site: str = "b") -> Debt:
    """Return a debt of a row's version."""
    return Debt(site, of.version.instance, of.version.digest)


def fact(
    about: Row | Instance,
    epoch: int = 1,
    kind: FactKind = FactKind.DELETED,
    reason: str = "asked for",
    *,
    details: tuple[tuple[str, str], ...] = (),
) -> Fact:
    """Make a fact about a row's instance, or another subject; a deletion, if not said otherwise."""
    instance = about.version.instance if isinstance(about, Row) else about
    return Fact(instance, epoch, kind, BEGIN + timedelta(hours=epoch), "somebody", reason, details)


async def add(catalogue: Catalogue, row: Row, debts: Sequence[Debt] = ()) -> int:
    """Add a row whose copy was verified at `BEGIN`; return its order."""
    return (await catalogue.add(row, debts, verified_at=BEGIN)).order
