from __future__ import annotations

from pynetdicom import fsm

from cluster.dicom.states import ACTIONS, TRANSITIONS, Event, State


def test_the_table_is_the_standards_as_pynetdicom_has_it() -> None:
    ours = {
        (f"Evt{event.value}", f"Sta{state.value}"): action for (event, state), action in TRANSITIONS.items()
    }
    assert ours == fsm.TRANSITION_TABLE


def test_every_action_that_the_table_names_is_defined() -> None:
    assert set(TRANSITIONS.values()) <= set(ACTIONS)


def test_a_lost_connection_and_an_abort_have_an_answer_in_every_state_with_a_peer() -> None:
    for state in set(State) - {State.IDLE}:
        assert (Event.TRANSPORT_CLOSED, state) in TRANSITIONS
    for state in set(State) - {State.IDLE, State.AWAITING_TRANSPORT}:
        assert (Event.ABORT_RECEIVED, state) in TRANSITIONS
        assert (Event.INVALID_PDU_RECEIVED, state) in TRANSITIONS
