"""The state machine of the upper layer (PS3.8 9.2), as tables that can be read beside the standard's."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class State(enum.IntEnum):
    """The states of PS3.8 tables 9-1 to 9-5."""

    IDLE = 1
    AWAITING_ASSOCIATE_RQ = 2
    AWAITING_LOCAL_ASSOCIATE_RESPONSE = 3
    AWAITING_TRANSPORT = 4
    AWAITING_ASSOCIATE_AC_OR_RJ = 5
    ESTABLISHED = 6
    AWAITING_RELEASE_RP = 7
    AWAITING_LOCAL_RELEASE_RESPONSE = 8
    COLLISION_REQUESTOR_AWAITING_LOCAL_RESPONSE = 9
    COLLISION_ACCEPTOR_AWAITING_RELEASE_RP = 10
    COLLISION_REQUESTOR_AWAITING_RELEASE_RP = 11
    COLLISION_ACCEPTOR_AWAITING_LOCAL_RESPONSE = 12
    AWAITING_TRANSPORT_CLOSE = 13


class Event(enum.IntEnum):
    """The events of PS3.8 table 9-10, by their row."""

    LOCAL_ASSOCIATE_REQUEST = 1
    TRANSPORT_CONFIRMED = 2
    ASSOCIATE_AC_RECEIVED = 3
    ASSOCIATE_RJ_RECEIVED = 4
    TRANSPORT_INDICATED = 5
    ASSOCIATE_RQ_RECEIVED = 6
    LOCAL_ASSOCIATE_ACCEPT = 7
    LOCAL_ASSOCIATE_REJECT = 8
    LOCAL_P_DATA = 9
    P_DATA_TF_RECEIVED = 10
    LOCAL_RELEASE_REQUEST = 11
    RELEASE_RQ_RECEIVED = 12
    RELEASE_RP_RECEIVED = 13
    LOCAL_RELEASE_RESPONSE = 14
    LOCAL_ABORT = 15
    ABORT_RECEIVED = 16
    TRANSPORT_CLOSED = 17
    ARTIM_EXPIRED = 18
    INVALID_PDU_RECEIVED = 19


class Effect(enum.Enum):
    """What an action consists of."""

    SEND = enum.auto()
    """Send the PDU that the local user asked for."""
    SEND_USER_ABORT = enum.auto()
    SEND_PROVIDER_ABORT = enum.auto()
    INDICATE = enum.auto()
    """Tell the local user."""
    START_ARTIM = enum.auto()
    """Start the ARTIM timer, or start it again."""
    STOP_ARTIM = enum.auto()
    CLOSE = enum.auto()
    """Close the transport connection."""


@dataclass(frozen=True, slots=True)
class Action:
    """What happens, in order, and the state that follows."""

    effects: tuple[Effect, ...]
    next_state: State


ACTIONS: Final[Mapping[str, Action]] = MappingProxyType(
    {
        # Association establishment: PS3.8 table 9-6.
        "AE-1": Action((), State(4)),
        "AE-2": Action((Effect.SEND,), State(5)),
        "AE-3": Action((Effect.INDICATE,), State(6)),
        "AE-4": Action((Effect.INDICATE, Effect.CLOSE), State(1)),
        "AE-5": Action((Effect.START_ARTIM,), State(2)),
        "AE-6": Action((Effect.STOP_ARTIM, Effect.INDICATE), State(3)),
        "AE-7": Action((Effect.SEND,), State(6)),
        "AE-8": Action((Effect.SEND, Effect.START_ARTIM), State(13)),
        # Data transfer: PS3.8 table 9-7.
        "DT-1": Action((Effect.SEND,), State(6)),
        "DT-2": Action((Effect.INDICATE,), State(6)),
        # Association release: PS3.8 table 9-8. AR-8 leads to Sta9 at the association-requestor.
        "AR-1": Action((Effect.SEND,), State(7)),
        "AR-2": Action((Effect.INDICATE,), State(8)),
        "AR-3": Action((Effect.INDICATE, Effect.CLOSE), State(1)),
        "AR-4": Action((Effect.SEND, Effect.START_ARTIM), State(13)),
        "AR-5": Action((Effect.STOP_ARTIM,), State(1)),
        "AR-6": Action((Effect.INDICATE,), State(7)),
        "AR-7": Action((Effect.SEND,), State(8)),
        "AR-8": Action((Effect.INDICATE,), State(10)),
        "AR-9": Action((Effect.SEND,), State(11)),
        "AR-10": Action((Effect.INDICATE,), State(12)),
        # Association abort: PS3.8 table 9-9.
        "AA-1": Action((Effect.SEND_USER_ABORT, Effect.START_ARTIM), State(13)),
        "AA-2": Action((Effect.STOP_ARTIM, Effect.CLOSE), State(1)),
        "AA-3": Action((Effect.INDICATE, Effect.CLOSE), State(1)),
        "AA-4": Action((Effect.INDICATE,), State(1)),
        "AA-5": Action((Effect.STOP_ARTIM,), State(1)),
        "AA-6": Action((), State(13)),
        "AA-7": Action((Effect.SEND_PROVIDER_ABORT,), State(13)),
        "AA-8": Action((Effect.SEND_PROVIDER_ABORT, Effect.INDICATE, Effect.START_ARTIM), State(13)),
    }
)

TABLE_9_10: Final = """
        Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1    AE-1  -     -     -     -     -     -     -     -     -     -     -     -
Evt2    -     -     -     AE-2  -     -     -     -     -     -     -     -     -
Evt3    -     AA-1  AA-8  -     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4    -     AA-1  AA-8  -     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5    AE-5  -     -     -     -     -     -     -     -     -     -     -     -
Evt6    -     AE-6  AA-8  -     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7    -     -     AE-7  -     -     -     -     -     -     -     -     -     -
Evt8    -     -     AE-8  -     -     -     -     -     -     -     -     -     -
Evt9    -     -     -     -     -     DT-1  -     AR-7  -     -     -     -     -
Evt10   -     AA-1  AA-8  -     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11   -     -     -     -     -     AR-1  -     -     -     -     -     -     -
Evt12   -     AA-1  AA-8  -     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13   -     AA-1  AA-8  -     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14   -     -     -     -     -     -     -     AR-4  AR-9  -     -     AR-4  -
Evt15   -     -     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  -
Evt16   -     AA-2  AA-3  -     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17   -     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18   -     AA-2  -     -     -     -     -     -     -     -     -     -     AA-2
Evt19   -     AA-1  AA-8  -     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""
"""PS3.8 table 9-10, without the next states: each action has one of its own. `-` cannot happen."""


def _read(table: str) -> dict[tuple[Event, State], str]:
    header, *rows = (line.split() for line in table.strip().splitlines())
    return {
        (Event(int(event.removeprefix("Evt"))), State(int(state.removeprefix("Sta")))): action
        for event, *actions in rows
        for state, action in zip(header, actions, strict=True)
        if action != "-"
    }


TRANSITIONS: Final[Mapping[tuple[Event, State], str]] = MappingProxyType(_read(TABLE_9_10))
"""The name of the action for an event in a state."""
