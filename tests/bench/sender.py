"""The sender: a process with one blocking socket and one thread per association, TCP_NODELAY.

It takes the longest P-DATA-TF that the peer announces, up to 1 MiB or less if told so. Messages are encoded
before the clock starts; per instance it writes new UIDs into place, calls `sendall`, and reads the answer.
The clock runs from when all associations stand to the last answer. `python -m tests.bench.sender --help`.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Final, TypeAlias

from tests.bench import instances, pdus, population

CONNECT_TIMEOUT_S: Final = 10.0
ANSWER_TIMEOUT_S: Final = 120


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be sent, and to whom. Each association stops at `count` instances or after `seconds`."""

    host: str
    port: int
    associations: int = 1
    count: int = 1_000_000
    seconds: float = 3600.0
    max_pdu_bytes: int = pdus.LARGEST_PDU_BYTES
    frames: int = 0
    """0 for CT images; else frames of a multi-frame image."""
    first_study: int | None = None
    """If given, small images are sent, each a study of the population: `count` from this number on, by the
    first association, as many after them by the second, and so on."""
    called_ae: str = "ATRIA"
    calling_ae: str = "BENCH"
    run: int = field(default_factory=lambda: random.SystemRandom().randrange(10**14))
    """What makes its UIDs differ from those of all other runs: below 10**14."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job."""

    instances: int
    """How many were answered with success (0x0000)."""
    seconds: float
    fault: str | None
    """The first thing that went wrong; its association stopped there."""
    slowest_answer_s: float = 0.0
    """Longest time from an instance's last P-DATA to its answer."""

    @property
    def rate(self) -> float:
        """Instances a second."""
        return self.instances / self.seconds if self.seconds else 0.0


_Encoder: TypeAlias = Callable[[int], Iterable[bytes | bytearray]]


def set_up(connection: socket.socket) -> None:
    """Make a connection blocking, with the kernel's time limits: Python's own would cost a poll a call."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.settimeout(None)
    limit = struct.pack("ll", ANSWER_TIMEOUT_S, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


class _Association:
    def __init__(self, job: Job, number: int) -> None:
        self._job = job
        self._number = number
        self.acknowledged = 0
        self.fault: str | None = None
        self.ended_at = 0.0
        self.slowest_answer_s = 0.0

    def run(self, start: threading.Barrier) -> None:
        try:
            with self._connect() as connection:
                max_pdu_bytes = self._associate(connection)
                encode = self._encoder(max_pdu_bytes)
                start.wait()
                self._send(connection, encode)
                self.ended_at = time.perf_counter()
                connection.sendall(pdus.release(pdus.A_RELEASE_RQ))
                pdus.read_pdu(connection)
        except (OSError, ValueError, struct.error, pdus.PeerFault, threading.BrokenBarrierError) as error:
            self.fault = f"{type(error).__name__}: {error}"
            self.ended_at = self.ended_at or time.perf_counter()
            start.abort()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection((self._job.host, self._job.port), CONNECT_TIMEOUT_S)
        set_up(connection)
        return connection

    def _associate(self, connection: socket.socket) -> int:
        job = self._job
        sop_class = instances.MULTI_FRAME_GRAYSCALE_WORD_STORAGE if job.frames else instances.CT_IMAGE_STORAGE
        connection.sendall(pdus.associate_rq(job.called_ae, job.calling_ae, sop_class))
        pdu_type, body = pdus.read_pdu(connection)
        if pdu_type != pdus.A_ASSOCIATE_AC:
            raise pdus.PeerFault(f"no association: the peer answered with a PDU of type {pdu_type:#04x}")
        return min(pdus.peer_max_pdu_length(body) or job.max_pdu_bytes, job.max_pdu_bytes)

    def _encoder(self, max_pdu_bytes: int) -> _Encoder:
        """Return what encodes an instance by its number in the association."""
        job = self._job
        if job.first_study is not None:
            first = job.first_study + self._number * job.count
            return lambda number: [pdus.small_message(_small_image(first + number))]
        if job.frames:
            return lambda number: pdus.multi_frame_message(
                instances.multi_frame(self._uids(number), job.frames), max_pdu_bytes
            )
        messages = pdus.CtMessages(instances.ct_image(self._uids(0)), max_pdu_bytes)
        return lambda number: messages.of(self._uids(number))

    def _send(self, connection: socket.socket, encode: _Encoder) -> None:
        deadline = time.perf_counter() + self._job.seconds
        while self.acknowledged < self._job.count and time.perf_counter() < deadline:
            for part in encode(self.acknowledged):
                connection.sendall(part)
            sent_at = time.perf_counter()
            pdu_type, body = pdus.read_pdu(connection)
            self.slowest_answer_s = max(self.slowest_answer_s, time.perf_counter() - sent_at)
            if pdu_type != pdus.P_DATA_TF:
                raise pdus.PeerFault(f"no answer: the peer sent a PDU of type {pdu_type:#04x}")
            if status := pdus.status_of(body):
                raise pdus.PeerFault(f"the peer answered with status {status:#06x}")
            self.acknowledged += 1

    def _uids(self, number: int) -> instances.Uids:
        return instances.uids(self._job.run, self._number, number)


def _small_image(number: int) -> instances.DataSet:
    study = population.study(number)
    uids = (study.study_instance_uid, study.series_instance_uid, study.sop_instance_uid())
    return instances.small_image(instances.Uids(*(uid.encode("ascii") for uid in uids)), study.values)


def send(job: Job) -> Result:
    """Send, and return what became of it; a peer's fault is in the result, never raised."""
    associations = [_Association(job, number) for number in range(job.associations)]
    started_at: list[float] = []
    start = threading.Barrier(job.associations, action=lambda: started_at.append(time.perf_counter()))
    threads = [threading.Thread(target=one.run, args=(start,)) for one in associations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    faults = [one.fault for one in associations if one.fault]
    # An association that only waited for another that failed says nothing of the cause.
    faults.sort(key=lambda fault: fault.startswith(threading.BrokenBarrierError.__name__))
    return Result(
        instances=sum(one.acknowledged for one in associations),
        seconds=max(one.ended_at for one in associations) - started_at[0] if started_at else 0.0,
        fault=faults[0] if faults else None,
        slowest_answer_s=max(one.slowest_answer_s for one in associations),
    )


def main() -> None:
    """Send what the command line says; print the result as one line of JSON."""
    parser = argparse.ArgumentParser(description="Send instances and print how many were acknowledged.")
    parser.add_argument("job", help="a JSON object: " + ", ".join(Job.__dataclass_fields__))
    result = send(Job(**json.loads(parser.parse_args().job)))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
