"""What one instance's header costs a worker: read from the data set, packed, described for the catalogues.

It runs here, in one thread, on data sets that lie in memory: a CT image of the bench, and a scanner's. Each
has another SOP Instance UID than the one before, so that nothing is answered from memory.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.dicom.elements import pack
from cluster.dicom.header import HeaderReader
from storage_node.catalogue.attributes import described
from tests.bench import instances
from tests.bench.figures import Bar, Figure
from tests.bench.plan import Bench

PART: Final = "header"
_BAR: Final = Bar(1.0, at_least=False)
_ROUNDS: Final = 5
_DIGITS: Final = 5


@dataclass(slots=True)
class _Instance:
    data_set: bytearray
    digits_at: int
    """Where the last digits of its SOP Instance UID begin."""
    number: int = 10 ** (_DIGITS - 1)

    def renew(self) -> None:
        self.number = self.number + 1 if self.number + 1 < 10**_DIGITS else 10 ** (_DIGITS - 1)
        self.data_set[self.digits_at : self.digits_at + _DIGITS] = b"%d" % self.number


def run(bench: Bench) -> list[Figure]:
    """Do the work over and over."""
    figures = []
    for name, instance in (("CT image of the bench", _made()), ("CT_small.dcm of pydicom", _ct_small())):
        bench.note(f"header work: {name}")
        repeats = max(1, bench.plan.header_repeats // _ROUNDS)
        elements, packed_bytes = _work(instance)
        values = tuple(_milliseconds(instance, repeats) for _ in range(_ROUNDS))
        note = f"{elements} elements, packed in {packed_bytes} bytes"
        figures.append(Figure(PART, name, "ms", values, _BAR, note))
    return figures


def _work(instance: _Instance) -> tuple[int, int]:
    """Do what is done for one instance; return how many elements are kept, and in how many bytes."""
    reader = HeaderReader(instances.EXPLICIT_VR_LITTLE_ENDIAN)
    reader.feed(memoryview(instance.data_set))
    reader.close()
    identity = (
        reader.sop_class_uid,
        reader.sop_instance_uid,
        reader.study_instance_uid,
        reader.series_instance_uid,
    )
    assert all(identity)
    assert isinstance(reader.flags, tuple)
    packed = pack(reader.elements)
    assert described(packed)
    return len(reader.elements), len(packed)


def _milliseconds(instance: _Instance, repeats: int) -> float:
    started_at = time.perf_counter()
    for _ in range(repeats):
        instance.renew()
        _work(instance)
    return (time.perf_counter() - started_at) / repeats * 1000


def _made() -> _Instance:
    made = instances.ct_image(instances.uids(0, 0, 0))
    uid_at = made.header.index(made.uids.instance)
    data_set = bytearray(made.header + instances.pixels(made.pixel_bytes))
    return _Instance(data_set, uid_at + instances.UID_LENGTH - _DIGITS)


def _ct_small() -> _Instance:
    """Take the data set out of a file: its File Meta Information says how long it is (PS3.10 7.1)."""
    from pydicom.data import get_testdata_file

    file = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    (group_length,) = struct.unpack_from("<I", file, 140)
    data_set = bytearray(file[144 + group_length :])
    uid = b"1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322"
    return _Instance(data_set, data_set.index(uid) + len(uid) - _DIGITS)
