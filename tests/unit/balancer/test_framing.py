from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from balancer.associate_rq import A_ABORT, A_ASSOCIATE_RJ, A_RELEASE_RP
from balancer.framing import PduFraming

pdus = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 50)), min_size=1, max_size=10)


def encode(pdu_type: int, size: int) -> bytes:
    return bytes((pdu_type, 0)) + size.to_bytes(4, "big") + bytes(size)


@given(pdus)
def test_boundaries_are_exactly_where_pdus_end(sizes: list[tuple[int, int]]) -> None:
    stream = b"".join(encode(*pdu) for pdu in sizes)
    ends = set(itertools.accumulate(6 + size for _, size in sizes))
    framing = PduFraming()
    for position, byte in enumerate(stream, start=1):
        framing.feed(bytes((byte,)))
        assert framing.at_boundary == (position in ends)
        assert (framing.needed_bytes == 0) == framing.at_boundary


@given(pdus, st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=40))
def test_pieces_and_skipped_bodies_make_no_difference(
    sizes: list[tuple[int, int]], steps: list[tuple[int, bool]]
) -> None:
    stream = b"".join(encode(*pdu) for pdu in sizes)
    framing, reference = PduFraming(), PduFraming()
    position = 0
    for step, skipped in [*steps, (len(stream), False)]:
        if skipped and framing.body_left_bytes:
            end = position + min(step, framing.body_left_bytes)
            framing.skip(end - position)
        else:
            end = min(position + step, len(stream))
            framing.feed(memoryview(stream)[position:end])
        for byte in stream[position:end]:
            reference.feed(bytes((byte,)))
        position = end
        assert framing.needed_bytes == reference.needed_bytes
        assert framing.last_type == reference.last_type
    assert framing.at_boundary


@given(pdus)
def test_needed_bytes_never_pass_a_boundary(sizes: list[tuple[int, int]]) -> None:
    stream = b"".join(encode(*pdu) for pdu in sizes)
    framing = PduFraming()
    position, ends = 0, []
    while position < len(stream):
        step = framing.needed_bytes or 1
        framing.feed(stream[position : position + step])
        position += step
        if framing.at_boundary:
            ends.append(position)
    assert ends == list(itertools.accumulate(6 + size for _, size in sizes))


@given(st.integers(0, 255))
def test_it_is_over_after_an_acceptors_last_pdu_and_no_other(pdu_type: int) -> None:
    framing = PduFraming()
    framing.feed(encode(pdu_type, 4)[:-1])
    assert not framing.over
    framing.feed(b"\0")
    assert framing.over == (pdu_type in {A_ASSOCIATE_RJ, A_RELEASE_RP, A_ABORT})
