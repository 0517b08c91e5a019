"""Asks for one patient's studies after another's by C-FIND: a blocking socket and a thread an association.

Each answer must be all of a patient's studies, of those that were stored. The clock runs from when all
associations stand to the last final response. `python -m tests.bench.finder JOB` prints one line of JSON.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from tests.bench import pdus, population
from tests.bench.sender import CONNECT_TIMEOUT_S, Result, set_up

_STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_C_FIND_RQ: Final = 0x0020
_DATA_SET_PRESENT: Final = 1
_PENDING: Final = frozenset((0xFF00, 0xFF01))
_PATIENT_ID: Final = 0x00100020
_RETURNED: Final = (
    *((0x00080020, b"DA"), (0x00080030, b"TM"), (0x00080050, b"SH"), (0x00080061, b"CS")),
    *((0x00080090, b"PN"), (0x00081030, b"LO"), (0x00100010, b"PN"), (0x00100030, b"DA")),
    *((0x00100040, b"CS"), (0x0020000D, b"UI"), (0x00200010, b"SH"), (0x00201206, b"IS")),
    (0x00201208, b"IS"),
)
"""What a list of studies shows (PS3.4 C.6.2.1.2)."""


@dataclass(frozen=True, slots=True)
class FindJob:
    """Who is asked, and for what."""

    port: int
    studies: int
    """The first studies of the population: those that are stored."""
    associations: int
    seconds: float
    seed: int


class _Association:
    def __init__(self, job: FindJob, number: int, studies_of: Mapping[str, int]) -> None:
        self._job = job
        self._studies_of = studies_of
        self._chance = random.Random(f"{job.seed} {number}")
        self.finds = 0
        self.fault: str | None = None
        self.ended_at = 0.0

    def run(self, start: threading.Barrier) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._job.port), CONNECT_TIMEOUT_S) as connection:
                _associate(connection)
                start.wait()
                self._ask(connection)
                self.ended_at = time.perf_counter()
                connection.sendall(pdus.release(pdus.A_RELEASE_RQ))
                pdus.read_pdu(connection)
        except (OSError, ValueError, struct.error, pdus.PeerFault, threading.BrokenBarrierError) as error:
            self.fault = f"{type(error).__name__}: {error}"
            start.abort()

    def _ask(self, connection: socket.socket) -> None:
        deadline = time.perf_counter() + self._job.seconds
        while time.perf_counter() < deadline:
            study = population.study(self._chance.randrange(self._job.studies))
            patient_id = study.values[_PATIENT_ID]
            connection.sendall(_find_rq(patient_id))
            found, expected = _answers(connection), self._studies_of[patient_id]
            if found != expected:
                raise pdus.PeerFault(f"{found} studies where {expected} are stored")
            self.finds += 1


def find(job: FindJob) -> Result:
    """Ask, and return how many were answered; a peer's fault is in the result, never raised."""
    studies_of = Counter(population.study(number).values[_PATIENT_ID] for number in range(job.studies))
    associations = [_Association(job, number, studies_of) for number in range(job.associations)]
    started_at: list[float] = []
    start = threading.Barrier(job.associations, action=lambda: started_at.append(time.perf_counter()))
    threads = [threading.Thread(target=one.run, args=(start,)) for one in associations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults := [one.fault for one in associations if one.fault]:
        return Result(0, 0.0, faults[0])
    seconds = max(one.ended_at for one in associations) - started_at[0]
    return Result(sum(one.finds for one in associations), seconds, None)


def _associate(connection: socket.socket) -> None:
    set_up(connection)
    connection.sendall(pdus.associate_rq("ATRIA", "BENCH", _STUDY_ROOT_FIND))
    pdu_type, body = pdus.read_pdu(connection)
    if pdu_type != pdus.A_ASSOCIATE_AC:
        raise pdus.PeerFault(f"no association: the peer answered with a PDU of type {pdu_type:#04x}")
    pdus.peer_max_pdu_length(body)  # raises when the presentation context was refused


def _answers(connection: socket.socket) -> int:
    """Read responses until the final one; return how many Identifiers came.

    Raises
    ------
    PeerFault
        The peer closed the connection, or answered with something else than success.
    """
    found, command = 0, b""
    while True:
        pdu_type, body = pdus.read_pdu(connection)
        if pdu_type != pdus.P_DATA_TF:
            raise pdus.PeerFault(f"a PDU of type {pdu_type:#04x}")
        while body:
            length, _, control = struct.unpack_from(">IBB", body)
            fragment, body = body[pdus.PDV_HEAD_BYTES : 4 + length], body[4 + length :]
            if not control & pdus.COMMAND:
                found += bool(control & pdus.LAST)
                continue
            command += fragment
            if not control & pdus.LAST:
                continue
            status, command = pdus.number(pdus.values(command)[0x0900]), b""
            if status == 0:
                return found
            if status not in _PENDING:
                raise pdus.PeerFault(f"the peer answered with status {status:#06x}")


def _find_rq(patient_id: str) -> bytes:
    """Encode a C-FIND-RQ (PS3.7 9.3.2.1) and its Identifier, at STUDY level."""
    command = pdus.command_set(
        (0x0002, pdus.uid_value(_STUDY_ROOT_FIND)),
        (0x0100, struct.pack("<H", _C_FIND_RQ)),
        (0x0110, struct.pack("<H", 1)),
        (0x0700, struct.pack("<H", 0x0000)),
        (0x0800, struct.pack("<H", _DATA_SET_PRESENT)),
    )
    keys = {tag: (vr, b"") for tag, vr in _RETURNED}
    keys[0x00080052] = (b"CS", b"STUDY ")
    keys[_PATIENT_ID] = (b"LO", patient_id.encode("ascii"))
    identifier = b"".join(
        struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value
        for tag, (vr, value) in sorted(keys.items())
    )
    return pdus.p_data(command, pdus.COMMAND | pdus.LAST) + pdus.p_data(identifier, pdus.LAST)


def main() -> None:
    """Ask what the command line says; print the result."""
    print(json.dumps(asdict(find(FindJob(**json.loads(sys.argv[1]))))))


if __name__ == "__main__":
    main()
