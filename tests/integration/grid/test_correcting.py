"""What people correct of patients, studies and series: planned from what the sites know, then decided."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster.nouns import FactKind, Instance, Level
from storage_node.catalogue.correctable import BadCorrection, corrections_of
from storage_node.catalogue.matching import Query, by_uids, parse_find
from storage_node.grid.grid import Grid
from storage_node.grid.write import NotEnoughSites
from storage_node.upkeep import correcting, merging, subjects
from storage_node.upkeep.correcting import Plan
from storage_node.upkeep.history import history, history_of_patient
from tests.contract.catalogue.rows import header
from tests.integration.grid.cluster import NAMES, arrival, cluster
from tests.integration.grid.upkeep import lose

NAME, ID, ISSUER, BIRTH_DATE = "00100010", "00100020", "00100021", "00100030"


async def store(grid: Grid, study: str, *, series: int = 1, **values: str) -> None:
    values = {"name": "Doe^Jane", "patient_id": "P1", "modality": "CT", **values}
    instance = Instance(study, f"{study}.{series}", f"{study}.{series}.1")
    await grid.store(replace(arrival(), instance=instance, header=header(**values)), [study.encode()])


async def decide(grid: Grid, plan: Plan) -> None:
    await correcting.decide(grid, plan, by="me@here", reason="test")


async def correct(grid: Grid, study: str, *words: str) -> Plan:
    subject = await subjects.study(grid, study)
    plan = await correcting.correction(grid, subject, corrections_of(words, Level.STUDY))
    await decide(grid, plan)
    return plan


async def merge(grid: Grid, old: str, new: str) -> Plan:
    plan = await merging.merge(grid, await subjects.patient(grid, old), await subjects.patient(grid, new))
    await decide(grid, plan)
    return plan


async def patients(grid: Grid) -> dict[str, set[str]]:
    """The studies of each patient, as C-FIND has them."""
    found: dict[str, set[str]] = {}
    for match in await subjects.find(grid, Query(Level.PATIENT)):
        studies = await merging.studies_of(grid, match.uid[0])
        found[match.uid[0].replace("\n", "/")] = {study.uid[0] for study in studies}
    return found


def changes(plan: Plan) -> dict[str, tuple[str, str]]:
    return {f"{change.tag:08X}": (change.before, change.after) for change in plan.changes}


async def test_a_correction_is_laid_over_the_one_that_holds_and_shows_what_changes() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", description="Skul")
        first = await correct(c.grid, "1.1", "StudyDescription=Skull", "PatientName=Doe^Jane")
        assert changes(first) == {"00081030": ("Skul", "Skull")}
        second = await correct(c.grid, "1.1", "AccessionNumber=A1", "StudyDescription=Head")
        assert changes(second) == {"00080050": ("", "A1"), "00081030": ("Skull", "Head")}
        (match,) = await subjects.find(c.grid, Query(Level.STUDY))
        assert dict(match.corrected) == {"00080050": "A1", "00081030": "Head", NAME: "Doe^Jane"}
        again = await correcting.correction(c.grid, await subjects.study(c.grid, "1.1"), {0x00080050: "A1"})
        assert (again.changes, again.details) == ((), again.held)


async def test_corrections_are_taken_back_one_by_one_or_all() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", description="Skull")
        await correct(c.grid, "1.1", "StudyDescription=Head", "AccessionNumber=A1")
        subject = await subjects.study(c.grid, "1.1")
        with pytest.raises(BadCorrection, match="StudyDate was not corrected"):
            await correcting.undoing(c.grid, subject, [0x00080020])
        one = await correcting.undoing(c.grid, subject, [0x00081030])
        assert changes(one) == {"00081030": ("Head", "Skull")}
        await decide(c.grid, one)
        await decide(c.grid, await correcting.undoing(c.grid, await subjects.study(c.grid, "1.1"), []))
        subject = await subjects.study(c.grid, "1.1")
        assert (subject.held, subject.match.corrected) == ((), ())
        with pytest.raises(BadCorrection, match="nothing to take back"):
            await correcting.undoing(c.grid, subject, [])


async def test_a_study_of_another_patient_gets_what_is_known_of_him() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        await store(c.grid, "1.2", name="Roe^Richard", patient_id="P2", issuer="HOSP")
        plan = await correct(c.grid, "1.1", "PatientID=P2")
        assert dict(plan.details) == {ID: "P2", ISSUER: "HOSP", NAME: "Roe^Richard"}
        assert await patients(c.grid) == {"P2/HOSP": {"1.1", "1.2"}}
        plan = await correct(c.grid, "1.1", "PatientID=P9", "PatientName=New^Name")
        assert "No patient P9 is known" in plan.note
        assert await patients(c.grid) == {"P9/HOSP": {"1.1"}, "P2/HOSP": {"1.2"}}


async def test_which_of_several_patients_of_one_id_is_meant_has_to_be_said() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        await store(c.grid, "1.2", patient_id="P2", issuer="X", name="One")
        await store(c.grid, "1.3", patient_id="P2", issuer="Y", name="Two")
        with pytest.raises(BadCorrection, match=r"give IssuerOfPatientID=…, too, one of X, Y"):
            await correct(c.grid, "1.1", "PatientID=P2")
        plan = await correct(c.grid, "1.1", "PatientID=P2", "IssuerOfPatientID=Y")
        assert dict(plan.details)[NAME] == "Two"
        with pytest.raises(BadCorrection, match="several patients have the ID P2: say --issuer, one of X, Y"):
            await subjects.patient(c.grid, "P2")
        assert (await subjects.patient(c.grid, "P2", "X")).match.studies == 1
        assert await patients(c.grid) == {"P2/X": {"1.2"}, "P2/Y": {"1.1", "1.3"}}
        await store(c.grid, "1.4", patient_id="P4", issuer="Y")
        assert dict((await correct(c.grid, "1.4", "PatientID=P2")).details)[NAME] == "Two", (
            "of its own issuer"
        )


async def test_a_patient_id_that_is_there_already_brings_nothing_with_it() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        plan = await correct(c.grid, "1.1", "PatientID=P1", "StudyDescription=x")
        assert dict(plan.details) == {ID: "P1", "00081030": "x"}


async def test_a_patient_whose_id_has_several_values_is_none_of_them() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A\\B")
        with pytest.raises(BadCorrection, match="no patient A is known"):
            await subjects.patient(c.grid, "A")


async def test_a_patient_is_corrected_in_all_his_studies_and_a_series_alone() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        await store(c.grid, "1.2", name="Doe^J")
        subject = await subjects.patient(c.grid, "P1")
        texts = corrections_of(["PatientName=Müller^Jürgen"], Level.PATIENT)
        await decide(c.grid, await correcting.correction(c.grid, subject, texts))
        name = parse_find_name("muller*")
        assert [match.uid for match in await subjects.find(c.grid, name)] == [("1.1",), ("1.2",)]
        await store(c.grid, "1.1", series=2)
        plan = await correcting.correction(
            c.grid, await subjects.series(c.grid, "1.1.2"), corrections_of(["Modality=MR"], Level.SERIES)
        )
        assert changes(plan) == {"00080060": ("CT", "MR")}
        await decide(c.grid, plan)
        (study, _) = await subjects.find(c.grid, Query(Level.STUDY))
        assert study.modalities == ("CT", "MR")


def parse_find_name(pattern: str) -> Query:
    from cluster.dicom.elements import Element
    from storage_node.catalogue.matching import Model

    identifier = {0x00080052: Element("CS", b"STUDY"), 0x00100010: Element("PN", pattern.encode())}
    return parse_find(Model.STUDY, identifier).query


async def test_a_series_of_two_studies_has_to_be_named_with_its_study() -> None:
    async with cluster() as c:
        for study in ("1.1", "1.2"):
            instance = Instance(study, "1.9", f"{study}.1")
            packed = header(patient_id="P1", modality="CT")
            await c.grid.store(replace(arrival(), instance=instance, header=packed), [study.encode()])
        with pytest.raises(BadCorrection, match=r"one of 1\.1, 1\.2"):
            await subjects.series(c.grid, "1.9")
        assert (await subjects.series(c.grid, "1.9", "1.2")).instance == Instance("1.2", "1.9", "")


async def test_what_is_not_known_is_not_corrected() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        for subject in (
            subjects.study(c.grid, "9"),
            subjects.series(c.grid, "9"),
            subjects.patient(c.grid, "P9"),
        ):
            with pytest.raises(BadCorrection, match="is known"):
                await subject


async def test_merged_patients_are_one_whatever_comes_later_and_can_be_parted_again() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A", name="A^A")
        await store(c.grid, "1.2", patient_id="B", name="B^B")
        await store(c.grid, "1.3", patient_id="C", name="C^C", issuer="HOSP")
        plan = await merge(c.grid, "A", "B")
        assert [study.uid[0] for study in plan.moved] == ["1.1"]
        assert changes(plan) == {ID: ("A", "B"), NAME: ("A^A", "B^B")}
        plan = await merge(c.grid, "B", "C")
        assert [study.uid[0] for study in plan.moved] == ["1.1", "1.2"]
        await store(c.grid, "1.4", patient_id="A", name="A^A")
        assert await patients(c.grid) == {"C/HOSP": {"1.1", "1.2", "1.3", "1.4"}}
        back = await merging.unmerge(c.grid, "B")
        assert [study.uid[0] for study in back.moved] == ["1.1", "1.2", "1.4"]
        await decide(c.grid, back)
        assert await patients(c.grid) == {"B/": {"1.1", "1.2", "1.4"}, "C/HOSP": {"1.3"}}
        await decide(c.grid, await merging.unmerge(c.grid, "A"))
        assert await patients(c.grid) == {"A/": {"1.1", "1.4"}, "B/": {"1.2"}, "C/HOSP": {"1.3"}}
        with pytest.raises(BadCorrection, match="A was merged into no other"):
            await merging.unmerge(c.grid, "A")


async def test_a_study_cannot_be_said_to_belong_to_who_was_merged_into_another() -> None:
    async with cluster() as c:
        for study, patient in (("1.1", "A"), ("1.2", "B"), ("1.3", "C")):
            await store(c.grid, study, patient_id=patient)
        await merge(c.grid, "A", "B")
        with pytest.raises(BadCorrection, match="A was merged into B: name that one"):
            await correct(c.grid, "1.3", "PatientID=A")
        await correct(c.grid, "1.3", "PatientID=B")
        assert await patients(c.grid) == {"B/": {"1.1", "1.2", "1.3"}}


async def test_parting_leaves_what_was_corrected_before_the_merge() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A", name="A^A")
        await store(c.grid, "1.2", patient_id="B", name="B^B")
        subject = await subjects.patient(c.grid, "A")
        texts = {0x00100010: "Right^Name", 0x00100030: "19700131"}
        await decide(c.grid, await correcting.correction(c.grid, subject, texts))
        plan = await merge(c.grid, "A", "B")
        assert dict(plan.details)[BIRTH_DATE] == "19700131", "nothing else is known of the other"
        back = await merging.unmerge(c.grid, "A")
        assert changes(back) == {ID: ("B", "A"), NAME: ("B^B", "Right^Name")}
        await decide(c.grid, back)
        assert (await subjects.patient(c.grid, "A")).says(0x00100010) == "Right^Name"


async def test_merges_make_no_loop_and_no_alias_of_an_alias_by_mistake() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A")
        await store(c.grid, "1.2", patient_id="B")
        old = await subjects.patient(c.grid, "A")
        with pytest.raises(BadCorrection, match="into himself"):
            await merging.merge(c.grid, old, old)
        new = await subjects.patient(c.grid, "B")
        await decide(c.grid, await merging.merge(c.grid, old, new))
        with pytest.raises(BadCorrection, match="A was merged into B: take that back first"):
            await merging.merge(c.grid, new, old)
        with pytest.raises(BadCorrection, match="A was merged into B: name that one"):
            await subjects.patient(c.grid, "A")
        with pytest.raises(BadCorrection, match="A was merged into B: he cannot be"):
            await correcting.correction(c.grid, new, {0x00100020: "A"})


async def test_a_loop_that_came_about_at_several_sites_is_followed_once() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A")
        for old, new in (("A", "B"), ("B", "C"), ("C", "B")):
            patient = Instance.patient(f"{old}\n")
            await c.grid.decide(patient, FactKind.CORRECTED, by="me", reason="test", details=[(ID, new)])
        async with asyncio.timeout(10):
            assert await subjects.aliases(c.grid, "A\n") == ["A\n", "B\n", "C\n"]
            assert await patients(c.grid) == {"B/": {"1.1"}}


async def test_a_patient_gets_another_id_unless_that_is_another_patients() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A")
        await store(c.grid, "1.2", patient_id="B")
        subject = await subjects.patient(c.grid, "A")
        with pytest.raises(BadCorrection, match="B is known: atria merge"):
            await correcting.correction(c.grid, subject, {0x00100020: "B"})
        await decide(c.grid, await correcting.correction(c.grid, subject, {0x00100020: "A2"}))
        assert await patients(c.grid) == {"A2/": {"1.1"}, "B/": {"1.2"}}
        await decide(c.grid, await merging.unmerge(c.grid, "A"))
        assert await patients(c.grid) == {"A/": {"1.1"}, "B/": {"1.2"}}


async def test_the_history_tells_of_a_study_what_is_in_it_and_of_all_its_patients() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A")
        await store(c.grid, "1.2", patient_id="B")
        await correct(c.grid, "1.1", "StudyDescription=one")
        await lose(c, "c")
        await correct(c.grid, "1.1", "StudyDescription=two")
        await merge(c.grid, "A", "B")
        await c.grid.decide(Instance("1.1", "1.1.1", "1.1.1.1"), FactKind.DELETED, by="me", reason="test")
        await c.grid.decide(Instance("1.2", "1.2.1", "1.2.1.1"), FactKind.DELETED, by="me", reason="other")
        found = await history(c.grid, "1.1")
        assert found.silent == ("c",)
        told = [(one.fact.instance.level, one.fact.kind, one.holds, one.sites) for one in found.decided]
        corrected, both = FactKind.CORRECTED, ("a", "b")
        assert told == [
            (Level.STUDY, corrected, False, both),
            (Level.STUDY, corrected, True, both),
            (Level.PATIENT, corrected, True, both),
            (Level.IMAGE, FactKind.DELETED, True, both),
        ]
        await c.heal()
        of_image = await history(c.grid, "1.2.1.1")
        assert [one.fact.reason for one in of_image.decided] == ["other"]
        of_other = await history(c.grid, "1.1.1.1")
        assert [one.fact for one in of_other.decided] == [one.fact for one in found.decided]
        of_patient = await history_of_patient(c.grid, "A")
        assert [dict(one.fact.details)[ID] for one in of_patient.decided] == ["B"]
        assert (await history(c.grid, "9")).decided == ()


async def test_what_somebody_else_corrected_meanwhile_is_not_taken_back_unseen() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        mine = await correcting.correction(c.grid, await subjects.study(c.grid, "1.1"), {0x00080050: "A1"})
        await correct(c.grid, "1.1", "StudyDescription=theirs")
        with pytest.raises(BadCorrection, match="meanwhile"):
            await decide(c.grid, mine)
        both = await correct(c.grid, "1.1", "AccessionNumber=A1")
        await decide(c.grid, both)
        (match,) = await subjects.find(c.grid, Query(Level.STUDY))
        assert dict(match.corrected) == {"00080050": "A1", "00081030": "theirs"}


async def test_a_merge_is_taken_back_though_nothing_of_either_is_there_any_more() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1", patient_id="A")
        await store(c.grid, "1.2", patient_id="B")
        await merge(c.grid, "A", "B")
        for study in ("1.1", "1.2"):
            gone = Instance(study, f"{study}.1", f"{study}.1.1")
            await c.grid.decide(gone, FactKind.DELETED, by="me", reason="test")
        plan = await merging.unmerge(c.grid, "A")
        assert (plan.changes, plan.moved) == ((), ())
        await decide(c.grid, plan)
        await store(c.grid, "1.3", patient_id="A")
        assert await patients(c.grid) == {"A/": {"1.3"}}


async def test_with_too_few_sites_nothing_is_decided() -> None:
    async with cluster() as c:
        await store(c.grid, "1.1")
        subject = await subjects.study(c.grid, "1.1")
        plan = await correcting.correction(c.grid, subject, {0x00081030: "x"})
        for name in NAMES[1:]:
            await lose(c, name)
        with pytest.raises(NotEnoughSites):
            await decide(c.grid, plan)
        await c.heal()
        (match,) = await subjects.find(c.grid, by_uids(study=["1.1"], level=Level.STUDY))
        assert match.corrected == ()
