from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench import discarder, instances, pdus, write_baseline
from tests.bench.figures import Bar, Figure, interleaved, ratio
from tests.bench.sender import Job, send


@contextmanager
def _server(serve: Callable[[socket.socket], None], connections: int = 1) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def accept() -> None:
            threads = [
                threading.Thread(target=serve, args=(listener.accept()[0],)) for _ in range(connections)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def _answering(
    answer: bytes, *, accept: bytes = pdus.associate_ac("ANY", "ANY")
) -> Callable[[socket.socket], None]:
    """Return a peer that accepts as told, and answers the first instance as told, then leaves."""

    def serve(connection: socket.socket) -> None:
        with connection:
            pdus.read_pdu(connection)
            connection.sendall(accept)
            while True:
                try:
                    pdu_type, body = pdus.read_pdu(connection)
                except pdus.PeerFault:
                    return
                if pdu_type == pdus.P_DATA_TF and body[5] == 2:
                    connection.sendall(answer)
                    return

    return serve


@pytest.mark.parametrize("max_pdu_bytes", [16384, pdus.LARGEST_PDU_BYTES])
def test_what_was_acknowledged_is_counted_on_each_association(max_pdu_bytes: int) -> None:
    with _server(discarder.serve, connections=3) as port:
        result = send(Job("127.0.0.1", port, 3, count=5, max_pdu_bytes=max_pdu_bytes))
    assert result.fault is None
    assert result.instances == 15
    assert result.rate == pytest.approx(15 / result.seconds)


def test_large_instances_are_sent_whole() -> None:
    with _server(discarder.serve) as port:
        result = send(Job("127.0.0.1", port, count=2, frames=4))
    assert (result.instances, result.fault) == (2, None)


def test_time_bounds_it() -> None:
    with _server(discarder.serve) as port:
        result = send(Job("127.0.0.1", port, seconds=0.1))
    assert result.instances > 0
    assert 0.1 <= result.seconds < 5.0


def test_another_status_than_success_is_a_fault() -> None:
    success = pdus.store_rsp(instances.CT_IMAGE_STORAGE)
    refused = success[:-2] + struct.pack("<H", 0xA700)
    with _server(_answering(refused)) as port:
        result = send(Job("127.0.0.1", port, count=1))
    assert result.instances == 0
    assert result.fault == "PeerFault: the peer answered with status 0xa700"


def test_a_peer_that_leaves_is_a_fault_and_what_it_acknowledged_counts() -> None:
    with _server(_answering(pdus.store_rsp(instances.CT_IMAGE_STORAGE))) as port:
        result = send(Job("127.0.0.1", port, count=2))
    assert result.instances == 1
    assert result.fault is not None


def test_a_rejected_association_and_a_refused_context_are_faults() -> None:
    rejected = struct.pack(">BxIxBBB", pdus.A_ASSOCIATE_RJ, 4, 2, 3, 1)
    with _server(_answering(b"", accept=rejected)) as port:
        assert (
            send(Job("127.0.0.1", port)).fault
            == "PeerFault: no association: the peer answered with a PDU of type 0x03"
        )
    accepted = pdus.associate_ac("ANY", "ANY")
    refused = accepted.replace(
        struct.pack(">BxBx", pdus.CONTEXT_ID, 0), struct.pack(">BxBx", pdus.CONTEXT_ID, 3)
    )
    assert refused != accepted
    with _server(_answering(b"", accept=refused)) as port:
        assert (
            send(Job("127.0.0.1", port)).fault
            == "PeerFault: the peer refused the presentation context: result 3"
        )


def test_a_pdu_length_that_cannot_be_sent_by_is_a_fault() -> None:
    header = instances.ct_image(instances.uids(0, 0, 0)).header
    in_a_uid = header.index(instances.uids(0, 0, 0).instance) + 10 + pdus.PDV_HEAD_BYTES
    with _server(_answering(b"")) as port:
        fault = send(Job("127.0.0.1", port, max_pdu_bytes=in_a_uid)).fault
    assert fault is not None
    assert "straddles" in fault


def test_one_association_that_fails_ends_the_others_and_is_the_one_that_is_named() -> None:
    rejected = struct.pack(">BxIxBBB", pdus.A_ASSOCIATE_RJ, 4, 2, 3, 1)
    peers = iter([_answering(b""), _answering(b"", accept=rejected)])
    with _server(lambda connection: next(peers)(connection), connections=2) as port:
        result = send(Job("127.0.0.1", port, associations=2))
    assert result.instances == 0
    assert result.fault == "PeerFault: no association: the peer answered with a PDU of type 0x03"


def test_the_baseline_writes_three_whole_files_for_each_instance(tmp_path: Path) -> None:
    result = write_baseline.write(tmp_path / "files", threads=2, count=3, seconds=60.0)
    assert (result.instances, result.fault) == (6, None)
    sizes = {path.stat().st_size for path in (tmp_path / "files").rglob("*.dcm")}
    assert len(list((tmp_path / "files").rglob("*.dcm"))) == 18
    (size,) = sizes
    assert size > instances.FRAME_BYTES


def test_rounds_are_interleaved_and_the_warming_up_does_not_count() -> None:
    turns: list[str] = []
    values = iter(range(100))

    def leg(name: str) -> Callable[[], float]:
        def run() -> float:
            turns.append(name)
            return float(next(values))

        return run

    reached = interleaved({"A": leg("A"), "B": leg("B")}, rounds=2, note=lambda _: None)
    assert turns == ["A", "B"] * 3
    assert reached == {"A": (2.0, 4.0), "B": (3.0, 5.0)}
    assert ratio("part", reached, "A", "B").values == (2 / 3, 4 / 5)
    assert ratio("part", reached, "A", "C", at_least=1.0).verdict == "not measured"


@pytest.mark.parametrize(
    ("values", "bar", "verdict"),
    [
        ((0.5, 1.0, 9.0), Bar(1.0, at_least=True), "ok"),
        ((0.5, 0.9, 9.0), Bar(1.0, at_least=True), "short"),
        ((4.0,), Bar(4.0, at_least=False), "ok"),
        ((4.1,), Bar(4.0, at_least=False), "short"),
        ((), Bar(4.0, at_least=False), "not measured"),
        ((4.0,), None, ""),
    ],
)
def test_a_figure_is_judged_by_its_median(values: tuple[float, ...], bar: Bar | None, verdict: str) -> None:
    assert Figure("part", "name", "s", values, bar).verdict == verdict
