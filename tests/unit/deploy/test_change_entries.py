"""How events of a change feed are printed."""

from __future__ import annotations

import json

import pytest

from cluster.nouns import Fact, FactKind, Instance
from deploy.command.change_entries import entry, line
from storage_node.catalogue.feed import Added, Change
from storage_node.upkeep.changes import StudyComplete, Told
from tests.contract.catalogue.rows import BEGIN, CT, EXPLICIT, fact, row

ROW = row()


def told(what: Added | Fact) -> Told:
    return Told(Change("feed.2", what), "feed.1")


def test_a_version_says_what_it_is_and_whence_it_came() -> None:
    added = Added(ROW.version.instance, ROW.version.digest, CT, EXPLICIT, 1234, 2, ROW.provenance)
    assert json.loads(json.dumps(entry(told(added)))) == {
        "cursor": "feed.1",
        "kind": "version",
        "level": "IMAGE",
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.1",
        "sop_instance_uid": "1.2.3.1.1",
        "digest": ROW.version.digest,
        "sop_class_uid": CT,
        "transfer_syntax_uid": EXPLICIT,
        "size_bytes": 1234,
        "order": 2,
        "received_at": "2024-05-17T08:00:00+00:00",
        "calling_ae": "SCANNER",
        "called_ae": "ATRIA",
        "source": "10.0.0.1:104",
    }
    assert line(told(added)) == (
        "2024-05-17 08:00:00  version    image    1.2.3.1.1  1234 bytes from SCANNER, study 1.2.3"
    )


@pytest.mark.parametrize(
    ("subject", "named", "words"),
    [
        (
            Instance("1.2", "1.2.3", ""),
            {"level": "SERIES", "study_instance_uid": "1.2", "series_instance_uid": "1.2.3"},
            "series   1.2.3  by",
        ),
        (Instance("1.2", "", ""), {"level": "STUDY", "study_instance_uid": "1.2"}, "study    1.2  by"),
        (
            Instance.patient("P1\nHospital"),
            {"level": "PATIENT", "patient_id": "P1", "issuer_of_patient_id": "Hospital"},
            "patient  P1 Hospital  by",
        ),
        (
            Instance.patient("\n1.2"),
            {"level": "PATIENT", "study_instance_uid": "1.2"},
            "patient  1.2  by",
        ),
    ],
)
def test_a_fact_says_what_it_is_about(subject: Instance, named: dict[str, str], words: str) -> None:
    decided = fact(subject, kind=FactKind.CORRECTED, details=(("00100010", "Roe"),))
    found = json.loads(json.dumps(entry(told(decided))))
    assert found == {
        "cursor": "feed.1",
        "kind": "fact",
        **named,
        "digest": decided.digest,
        "fact": "corrected",
        "epoch": 1,
        "decided_at": decided.decided_at.isoformat(),
        "decided_by": "somebody",
        "reason": "asked for",
        "details": {"00100010": "Roe"},
    }
    assert words in line(told(decided))


def test_what_others_wrote_makes_neither_a_second_line_nor_a_terminals_command() -> None:
    said = line(told(fact(ROW, reason="one\ntwo\x1b[2J\udcff")))
    assert said.endswith("by somebody: one two [2J ")


def test_a_study_that_is_complete_says_how_much_it_is() -> None:
    complete = Told(StudyComplete("1.2.3", 7, BEGIN), None)
    assert entry(complete) == {
        "cursor": None,
        "kind": "study_complete",
        "level": "STUDY",
        "study_instance_uid": "1.2.3",
        "instances": 7,
        "last_received_at": BEGIN.isoformat(),
    }
    assert line(complete) == "2024-05-17 08:00:00  complete   study    1.2.3  7 instances"
