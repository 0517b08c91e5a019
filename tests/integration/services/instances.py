"""Instances made by hand, so that what is wrong in them is wrong on purpose, and how they are sent."""

from __future__ import annotations

import struct

from pydicom.datadict import dictionary_VR, tag_for_keyword

from cluster.dicom import client
from cluster.dicom.association import Association
from cluster.dicom.command_set import CommandSet
from cluster.nouns import Instance
from storage_node.catalogue.matching import by_uids
from tests.integration.services.node import Node

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


def element(tag: int, vr: str, value: bytes) -> bytes:
    value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in ("OB", "OW", "SQ", "UN"):
        return head + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def instance(
    sop: str = "1.2.3", *, study: str = "1.2", series: str = "1.2.2", sop_class: str = CT, more: bytes = b""
) -> bytes:
    return b"".join(
        (
            element(0x00080016, "UI", sop_class.encode()),
            element(0x00080018, "UI", sop.encode()),
            element(0x0020000D, "UI", study.encode()),
            element(0x0020000E, "UI", series.encode()),
            more,
        )
    )


async def store(
    association: Association, data_set: bytes, *, sop: str = "1.2.3", sop_class: str = CT
) -> CommandSet:
    (context, *_) = association.contexts_for(sop_class)
    return await client.store(
        association,
        sop_class_uid=context.abstract_syntax,
        sop_instance_uid=sop,
        transfer_syntax_uid=context.transfer_syntax,
        data_set=[data_set],
    )


async def held(node: Node, study: str = "1.2") -> list[Instance]:
    return [match.version.instance async for match in node.grid.find(by_uids(study=[study]), 100)]


def identifier(level: str, **keys: str) -> bytes:
    """Encode an Identifier in Explicit VR, its keys by their keywords."""
    elements = {0x00080052: ("CS", level.encode())}
    for keyword, value in keys.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        elements[tag] = (dictionary_VR(tag), value.encode())
    return b"".join(element(tag, *elements[tag]) for tag in sorted(elements))
