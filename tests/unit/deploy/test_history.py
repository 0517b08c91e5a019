"""What `atria history` shows of what was decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.nouns import Fact, FactKind, Instance
from deploy.command import history
from storage_node.upkeep.history import Decided, History
from tests.contract.catalogue.rows import fact


def decided(made: Fact, *, holds: bool = True) -> Decided:
    return Decided(made, holds, ("a", "b"))


def shown(capsys: pytest.CaptureFixture[str], *all_of: Decided) -> list[str]:
    history._print(History(all_of, ()))
    return [line for line in capsys.readouterr().out.splitlines() if "2024-" in line]


def test_what_was_decided_of_many_instances_at_once_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    deleted = [decided(fact(Instance("1.1", "1.1.1", f"1.1.1.{n}"))) for n in range(40)]
    other = replace(deleted[0], fact=replace(deleted[0].fact, reason="another"))
    first, second = shown(capsys, *deleted, other)
    assert "deleted" in first
    assert "40 instances" in first
    assert "image 1.1.1.0" in second


def test_corrections_are_shown_by_keyword_and_of_whom(capsys: pytest.CaptureFixture[str]) -> None:
    patient, study = Instance.patient("P1\nHOSP"), Instance("1.1", "", "")
    details = (("00100010", "Doe^[Jane]"), ("junk4711", "x"))
    one, two, three = shown(
        capsys,
        decided(fact(patient, 1, FactKind.CORRECTED, details=details)),
        decided(fact(study, 1, FactKind.CORRECTED)),
        decided(fact(Instance.patient("P2\n"), 1, FactKind.CORRECTED)),
    )
    assert "PatientName=Doe^[Jane], junk4711=x" in one
    assert "patient P1 (HOSP)" in one
    assert "corrections taken back" in two
    assert "study 1.1" in two
    assert "patient P2 " in three
