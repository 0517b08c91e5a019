from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dicom.faults import FaultKind, LocalProtocolError, RemoteProtocolError
from cluster.dicom.limits import UpperLayerLimits
from cluster.dicom.pdu import PDU_HEADER, Abort, AssociateRJ, ReleaseRP, ReleaseRQ
from cluster.dicom.states import State
from cluster.dicom.upper_layer import Faulted, Role, TransportLost, UpperLayer
from tests.unit.dicom.exchange import (
    ECHO,
    LIMITS,
    REQUEST,
    RESPONSE,
    STORE,
    Message,
    acceptor,
    comparable,
    encoded,
    established,
    message,
    p_data,
    pdv,
    requestor,
    sent,
)

COMMAND, LAST = 1, 2
RELEASE_RQ, RELEASE_RP = ReleaseRQ().encode(), ReleaseRP().encode()
USER_ABORT = Abort(0, 0).encode()
DATA = bytes(range(256)) * 300


def provider_abort(reason: int) -> bytes:
    return Abort(2, reason).encode()


EXCHANGES: dict[str, tuple[Callable[[], UpperLayer], bytes]] = {
    "a request": (acceptor, REQUEST.encode()),
    "an acceptance": (requestor, RESPONSE.encode()),
    "a rejection": (requestor, AssociateRJ(1, 1, 7).encode()),
    "messages with and without a data set": (
        established,
        message(ECHO) + message(STORE, DATA) + message(STORE, b"") + message(ECHO),
    ),
    "tiny PDUs": (established, message(STORE, DATA[:2000], 8)),
    "all in one PDU": (
        established,
        p_data(
            pdv(encoded(STORE, has_data_set=True), COMMAND | LAST), pdv(DATA[:5000], 0), pdv(DATA[:77], LAST)
        ),
    ),
    "empty fragments": (
        established,
        p_data(pdv(b"", COMMAND), pdv(encoded(STORE, has_data_set=True), COMMAND))
        + p_data(pdv(b"", COMMAND | LAST))
        + p_data(pdv(b"", 0), pdv(DATA[:9000], 0))
        + p_data(pdv(b"", 0))
        + p_data(pdv(b"", LAST)),
    ),
    "a release": (established, message(ECHO) + RELEASE_RQ),
    "an abort": (established, message(STORE, DATA)[:3000] + USER_ABORT),
    "an abort after a message": (established, message(ECHO) + USER_ABORT),
    "an unknown PDU": (established, message(ECHO) + b"\x09\0\0\0\0\4\0\0\0\0" + message(ECHO)),
    "a PDU out of turn": (established, message(ECHO) + REQUEST.encode() + USER_ABORT),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_an_exchange_fed_one_byte_at_a_time_is_the_same_as_fed_whole(name: str) -> None:
    begin, data = EXCHANGES[name]

    def feed(size: int) -> tuple[list[object], bytes, State, bool, list[str]]:
        layer, faults = begin(), []
        for offset in range(0, len(data), size):
            try:
                layer.receive(data[offset : offset + size])
            except RemoteProtocolError as fault:
                faults.append(str(fault))
        events = [str(e.fault) if isinstance(e, Faulted) else e for e in comparable(layer.events())]
        return events, sent(layer), layer.state, layer.closing, faults

    whole = feed(len(data))
    assert feed(1) == whole
    assert feed(4097) == whole
    assert whole[0]


@settings(max_examples=60)
@given(st.data())
def test_any_fragmentation_of_a_message_gives_the_same_message(data: st.DataObject) -> None:
    command = encoded(STORE, has_data_set=True)
    body = data.draw(st.binary(max_size=20_000))

    def cut(whole: bytes, control: int) -> list[bytes]:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
        edges = [0, *cuts, len(whole)]
        pieces = [whole[a:b] for a, b in pairwise(edges)]
        return [pdv(piece, control | (LAST if i == len(pieces) - 1 else 0)) for i, piece in enumerate(pieces)]

    pdvs = cut(command, COMMAND) + cut(body, 0)
    stream = b""
    while pdvs:
        size = data.draw(st.integers(1, len(pdvs)))
        stream += p_data(*pdvs[:size])
        pdvs = pdvs[size:]
    layer = established()
    step = data.draw(st.integers(1, len(stream)))
    for offset in range(0, len(stream), step):
        layer.receive(stream[offset : offset + step])
    [received] = comparable(layer.events())
    assert isinstance(received, Message)
    assert received.data_set == body


@settings(max_examples=60)
@given(
    st.integers(7, 300),
    st.binary(max_size=3000),
    st.lists(st.integers(0, 3000), max_size=4),
    st.integers(1, 400),
)
def test_what_is_fragmented_arrives_whole_and_no_pdu_is_too_long(
    max_pdu_length: int, body: bytes, reads: list[int], step: int
) -> None:
    stream = message(STORE, body, max_pdu_length)
    offset = 0
    while offset < len(stream):
        _, length = PDU_HEADER.unpack_from(stream, offset)
        assert length <= max_pdu_length
        offset += PDU_HEADER.size + length
    assert offset == len(stream)
    layer = established()
    parts: list[memoryview] = []
    data_set = None
    for begin in range(0, len(stream), step):
        layer.receive(stream[begin : begin + step])
        for event in layer.events():
            data_set = event.data_set  # type: ignore[union-attr]
        if data_set is not None:
            parts += data_set.take(reads[begin % len(reads)] if reads else 1 << 20)
    assert data_set is not None
    parts += data_set.take(1 << 20)
    assert b"".join(parts) == body
    assert data_set.complete
    assert data_set.received_bytes == len(body)
    assert data_set.buffered_bytes == 0


@given(st.binary(max_size=400), st.sampled_from([acceptor, requestor, established]), st.booleans())
def test_garbage_raises_nothing_but_the_peers_fault(
    data: bytes, begin: Callable[[], UpperLayer], known_pdu_type: bool
) -> None:
    layer = begin()
    if known_pdu_type and data:
        data = bytes([1 + data[0] % 7, 0, 0, 0, 0]) + data[1:]
    try:
        layer.receive(data)
    except RemoteProtocolError:
        assert sent(layer)[:1] == b"\x07"


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 255), st.binary(max_size=60)), max_size=8))
def test_garbage_in_p_data_raises_nothing_but_the_peers_fault(pdvs: list[tuple[int, int, bytes]]) -> None:
    layer = established()
    try:
        for context_id, control, data in pdvs:
            layer.receive(p_data(pdv(data, control, context_id)))
    except RemoteProtocolError:
        assert layer.state is State.AWAITING_TRANSPORT_CLOSE
        assert sent(layer)[:1] == b"\x07"


FAULTS: dict[str, tuple[bytes, FaultKind, int]] = {
    "bytes that are no PDU": (b"GET / HTTP/1.1\r\n\r\n", FaultKind.UNRECOGNIZED_PDU, 1),
    "an unknown PDU": (b"\x08\0\0\0\0\0", FaultKind.UNRECOGNIZED_PDU, 1),
    "a request out of turn": (REQUEST.encode(), FaultKind.UNEXPECTED_PDU, 2),
    "a release response that nobody asked for": (RELEASE_RP, FaultKind.UNEXPECTED_PDU, 2),
    "a release request of the wrong length": (b"\5\0\0\0\0\5\0\0\0\0\0", FaultKind.PDU_LENGTH, 6),
    "a release request that is too short": (b"\5\0\0\0\0\2\0\0", FaultKind.PDU_LENGTH, 6),
    "a P-DATA-TF without a value": (b"\4\0\0\0\0\0", FaultKind.PDU_LENGTH, 6),
    "a P-DATA-TF much longer than was announced": (b"\4\0\0\0\x80\1", FaultKind.PDU_LENGTH, 6),
    "a value that is longer than its PDU": (b"\4\0\0\0\0\x0a\0\0\0\x07\1\3abcd", FaultKind.PDU_LENGTH, 6),
    "a value that is shorter than its header": (b"\4\0\0\0\0\6\0\0\0\1\1\3", FaultKind.PDU_LENGTH, 6),
    "a rest that is no value": (b"\4\0\0\0\0\x08\0\0\0\2\1\1ab", FaultKind.PDU_LENGTH, 6),
    "an unknown context ID": (p_data(pdv(encoded(ECHO), COMMAND | LAST, 5)), FaultKind.CONTEXT_ID, 6),
    "a context ID that was refused": (p_data(pdv(encoded(ECHO), COMMAND | LAST, 3)), FaultKind.CONTEXT_ID, 6),
    "a data set without a command": (p_data(pdv(b"abcd", LAST)), FaultKind.FRAGMENT, 5),
    "a command within a data set": (
        message(STORE, DATA)[:-100_000] + p_data(pdv(encoded(STORE, has_data_set=True), COMMAND | LAST)) * 2,
        FaultKind.FRAGMENT,
        5,
    ),
    "another context within a data set": (
        p_data(pdv(encoded(STORE, has_data_set=True), COMMAND | LAST))
        + p_data(pdv(bytes(100), 0))
        + p_data(pdv(bytes(100), 0, 3)),
        FaultKind.FRAGMENT,
        5,
    ),
    "a command set that cannot be read": (
        p_data(pdv(b"\xff" * 20, COMMAND | LAST)),
        FaultKind.COMMAND_SET,
        6,
    ),
    "a command set that is too long": (
        p_data(pdv(bytes(16000), COMMAND)) * 5,
        FaultKind.COMMAND_SET,
        6,
    ),
    "a release in the middle of a data set": (
        p_data(pdv(encoded(STORE, has_data_set=True), COMMAND | LAST)) + p_data(pdv(b"abcd", 0)) + RELEASE_RQ,
        FaultKind.FRAGMENT,
        2,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_answered_with_an_abort_of_the_right_reason(name: str) -> None:
    data, kind, reason = FAULTS[name]
    layer = established()
    with pytest.raises(RemoteProtocolError) as raised:
        layer.receive(data)
    assert raised.value.kind is kind
    assert sent(layer) == provider_abort(reason)
    assert layer.state is State.AWAITING_TRANSPORT_CLOSE
    assert layer.artim_running
    assert isinstance(layer.events()[-1], Faulted)


def test_a_p_data_a_little_longer_than_was_announced_is_tolerated() -> None:
    layer = established()
    layer.receive(message(STORE, DATA, LIMITS.max_pdu_length_bytes + 6))
    assert [type(event) for event in comparable(layer.events())] == [Message]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", message(ECHO), RELEASE_RQ, RESPONSE.encode()])
def test_what_is_no_request_ends_a_connection_that_waits_for_one(data: bytes) -> None:
    layer = acceptor()
    with pytest.raises(RemoteProtocolError):
        layer.receive(data)
    assert sent(layer) == USER_ABORT  # AA-1: PS3.8 table 9-9
    assert layer.state is State.AWAITING_TRANSPORT_CLOSE


def test_a_request_longer_than_the_limit_is_refused_by_its_header() -> None:
    layer = acceptor(UpperLayerLimits(associate_rq_limit_bytes=1000))
    with pytest.raises(RemoteProtocolError):
        layer.receive(b"\1\0\0\0\x04\0")
    assert layer.state is State.AWAITING_TRANSPORT_CLOSE


def test_a_long_request_is_read_whatever_its_pieces() -> None:
    layer = acceptor()
    data = REQUEST.encode()
    padding = b"".join(b"\x77\0\x40\0" + bytes(0x4000) for _ in range(20))
    data = PDU_HEADER.pack(1, len(data) - 6 + len(padding)) + data[6:] + padding
    for offset in range(0, len(data), 999):
        layer.receive(data[offset : offset + 999])
    assert layer.events() == [REQUEST]


def test_an_acceptance_of_what_was_not_proposed_is_refused() -> None:
    layer = requestor()
    with pytest.raises(RemoteProtocolError):
        layer.receive(RESPONSE.encode().replace(b"\x21\0\0\x1b\1", b"\x21\0\0\x1b\7"))
    assert sent(layer) == provider_abort(6)


def test_a_release_is_asked_for_and_answered() -> None:
    ours, theirs = established(Role.REQUESTOR), established()
    ours.request_release()
    theirs.receive(sent(ours))
    assert theirs.events() == [ReleaseRQ()]
    theirs.send_data([message(ECHO)])
    theirs.respond_release()
    ours.receive(sent(theirs))
    assert comparable(ours.events()) == [Message(1, ECHO, None), ReleaseRP()]
    assert ours.closing
    assert not theirs.closing
    assert theirs.artim_running
    theirs.transport_closed()
    assert (ours.state, theirs.state) == (State.IDLE, State.IDLE)
    assert not theirs.artim_running


def test_a_release_collision_ends_in_both_being_released() -> None:
    ours, theirs = established(Role.REQUESTOR), established()
    ours.request_release()
    theirs.request_release()
    asked, asked_too = sent(ours), sent(theirs)
    ours.receive(asked_too)
    theirs.receive(asked)
    assert [ours.state, theirs.state] == [
        State.COLLISION_REQUESTOR_AWAITING_LOCAL_RESPONSE,
        State.COLLISION_ACCEPTOR_AWAITING_RELEASE_RP,
    ]
    with pytest.raises(LocalProtocolError):
        theirs.respond_release()
    ours.respond_release()
    theirs.receive(sent(ours))
    theirs.respond_release()
    ours.receive(sent(theirs))
    assert ours.closing
    assert theirs.state is State.AWAITING_TRANSPORT_CLOSE


@pytest.mark.parametrize("state", [*State])
def test_an_abort_is_possible_in_each_state(state: State) -> None:
    layer = _in_state(state)
    layer.to_send()
    layer.abort()
    if state in (State.IDLE, State.AWAITING_ASSOCIATE_RQ, State.AWAITING_TRANSPORT_CLOSE):
        assert layer.state is state
        assert sent(layer) == b""
    elif state is State.AWAITING_TRANSPORT:
        assert layer.closing
    else:
        assert layer.state is State.AWAITING_TRANSPORT_CLOSE
        assert sent(layer) == USER_ABORT
        assert layer.artim_running
        layer.artim_expired()
        assert layer.closing


@pytest.mark.parametrize("state", [s for s in State if s not in (State.IDLE, State.AWAITING_TRANSPORT)])
def test_an_abort_by_the_peer_ends_each_state(state: State) -> None:
    layer = _in_state(state)
    layer.events()
    layer.receive(provider_abort(0))
    assert layer.state is State.IDLE
    assert layer.closing
    silent = state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_TRANSPORT_CLOSE)
    assert layer.events() == ([] if silent else [Abort(2, 0)])


@pytest.mark.parametrize("state", [s for s in State if s is not State.IDLE])
def test_a_lost_connection_ends_each_state(state: State) -> None:
    layer = _in_state(state)
    layer.events()
    layer.transport_closed()
    assert layer.state is State.IDLE
    assert not layer.artim_running
    silent = state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_TRANSPORT_CLOSE)
    assert layer.events() == ([] if silent else [TransportLost()])


def test_artim_runs_until_the_request_and_closes_the_connection_without_one() -> None:
    layer = acceptor()
    assert layer.artim_running
    layer.artim_expired()
    assert layer.closing
    layer = acceptor()
    layer.receive(REQUEST.encode())
    assert not layer.artim_running


def test_after_an_abort_what_is_underway_is_dropped_and_the_peers_abort_ends_it() -> None:
    layer = established()
    stream = message(STORE, DATA)
    layer.receive(stream[:3000])
    [received] = layer.events()
    layer.abort()
    layer.receive(stream[3000:] + message(ECHO))
    assert received.data_set.buffered_bytes == 0  # type: ignore[union-attr]
    assert layer.events() == []
    layer.receive(USER_ABORT)
    assert layer.closing


@pytest.mark.parametrize(
    "ask",
    [
        lambda layer: layer.send_data([b""]),
        lambda layer: layer.request_release(),
        lambda layer: layer.respond_release(),
        lambda layer: layer.accept(RESPONSE),
        lambda layer: layer.reject(AssociateRJ(1, 1, 1)),
    ],
)
def test_what_is_not_allowed_now_is_the_callers_fault_and_sends_nothing(
    ask: Callable[[UpperLayer], None],
) -> None:
    layer = acceptor()
    with pytest.raises(LocalProtocolError):
        ask(layer)
    assert sent(layer) == b""
    assert layer.state is State.AWAITING_ASSOCIATE_RQ


def _unopened_requestor() -> UpperLayer:
    layer = UpperLayer(Role.REQUESTOR, LIMITS)
    layer.request(REQUEST)
    return layer


def _receive(data: bytes) -> Callable[[UpperLayer], None]:
    return lambda layer: layer.receive(data)


_COLLISION = (UpperLayer.request_release, _receive(RELEASE_RQ))
_WAYS: dict[State, tuple[Callable[[], UpperLayer], tuple[Callable[[UpperLayer], None], ...]]] = {
    State.IDLE: (lambda: UpperLayer(Role.ACCEPTOR, LIMITS), ()),
    State.AWAITING_ASSOCIATE_RQ: (acceptor, ()),
    State.AWAITING_LOCAL_ASSOCIATE_RESPONSE: (acceptor, (_receive(REQUEST.encode()),)),
    State.AWAITING_TRANSPORT: (_unopened_requestor, ()),
    State.AWAITING_ASSOCIATE_AC_OR_RJ: (requestor, ()),
    State.ESTABLISHED: (established, ()),
    State.AWAITING_RELEASE_RP: (established, (UpperLayer.request_release,)),
    State.AWAITING_LOCAL_RELEASE_RESPONSE: (established, (_receive(RELEASE_RQ),)),
    State.COLLISION_REQUESTOR_AWAITING_LOCAL_RESPONSE: (lambda: established(Role.REQUESTOR), _COLLISION),
    State.COLLISION_ACCEPTOR_AWAITING_RELEASE_RP: (established, _COLLISION),
    State.COLLISION_REQUESTOR_AWAITING_RELEASE_RP: (
        lambda: established(Role.REQUESTOR),
        (*_COLLISION, UpperLayer.respond_release),
    ),
    State.COLLISION_ACCEPTOR_AWAITING_LOCAL_RESPONSE: (established, (*_COLLISION, _receive(RELEASE_RP))),
    State.AWAITING_TRANSPORT_CLOSE: (established, (UpperLayer.abort,)),
}


def _in_state(state: State) -> UpperLayer:
    """Return an upper layer that has come into a state by what leads there."""
    begin, steps = _WAYS[state]
    layer = begin()
    for step in steps:
        step(layer)
    assert layer.state is state
    return layer
