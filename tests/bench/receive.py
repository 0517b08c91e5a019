"""Receiving only: nobody keeps anything."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from tests import tools
from tests.bench import peers
from tests.bench.figures import Figure, Leg, at, interleaved, ratio
from tests.bench.legs import send
from tests.bench.pdus import LARGEST_PDU_BYTES
from tests.bench.plan import Bench
from tests.bench.sender import Job

PART: Final = "receive"
_DCMTK_DEFAULT_PDU: Final = 16384
_DCMTK_LONGEST_PDU: Final = 131072

_NOTHING: Final = "receiver that does nothing"
_ATRIA: Final = "Atria"
_ATRIA_SHORT: Final = "Atria, PDUs of 16 KiB"
_DCMTK: Final = "DCMTK"
_DCMTK_LONG: Final = "DCMTK, PDUs of 128 KiB"
_PYNETDICOM: Final = "pynetdicom"


def run(bench: Bench) -> list[Figure]:
    """Compare the receivers at each number of associations.

    Raises
    ------
    Broken
        One of them did not work.
    """
    storescp = tools.dcmtk("storescp")
    with ExitStack() as stack:

        def module(name: str) -> int:
            return stack.enter_context(peers.module(name, bench.folder))

        atria = module("null_receiver")
        ports = {
            _NOTHING: module("discarder"),
            _ATRIA: atria,
            _ATRIA_SHORT: atria,
            _PYNETDICOM: module("pynetdicom_receiver"),
        }
        if storescp:
            for name, pdu in ((_DCMTK, _DCMTK_DEFAULT_PDU), (_DCMTK_LONG, _DCMTK_LONGEST_PDU)):
                ports[name] = stack.enter_context(peers.dcmtk(storescp, bench.folder, pdu))
        return [figure for number in bench.plan.associations for figure in _compare(bench, ports, number)]


def _compare(bench: Bench, ports: dict[str, int], associations: int) -> list[Figure]:
    def leg(name: str, port: int) -> Leg:
        max_pdu = _DCMTK_DEFAULT_PDU if name == _ATRIA_SHORT else LARGEST_PDU_BYTES
        seconds = bench.plan.receive_seconds

        def run() -> float:
            return send(
                Job("127.0.0.1", port, associations, seconds=seconds, max_pdu_bytes=max_pdu), name
            ).rate

        return run

    legs = {name: leg(name, port) for name, port in ports.items()}
    rates = interleaved(legs, bench.plan.receive_rounds, bench.note)
    suffix = at(associations)
    return [
        *(Figure(PART, name + suffix, "/s", values) for name, values in rates.items()),
        ratio(PART, rates, _ATRIA, _DCMTK, suffix=suffix, at_least=1.0),
        ratio(PART, rates, _ATRIA, _PYNETDICOM, suffix=suffix, at_least=8.0),
        ratio(PART, rates, _ATRIA_SHORT, _DCMTK, suffix=suffix),
        ratio(PART, rates, _ATRIA, _DCMTK_LONG, suffix=suffix),
        ratio(PART, rates, _NOTHING, _ATRIA, suffix=suffix),
    ]
