"""What every catalogue finds."""

from __future__ import annotations

import pytest

from cluster.nouns import Level
from storage_node.catalogue.attributes import ATTRIBUTES, normal
from storage_node.catalogue.matching import Key, Like, OneOf, Query, Within, by_uids
from storage_node.catalogue.protocol import Catalogue, Match
from tests.contract.catalogue.rows import CT, MR, add, row

_BY_COLUMN = {attribute.column: attribute for attribute in reversed(ATTRIBUTES.values())}


async def find(catalogue: Catalogue, level: Level, *keys: Key, limit: int = 1000) -> list[Match]:
    return [match async for match in catalogue.find(Query(level, keys), limit)]


async def studies(catalogue: Catalogue, *keys: Key) -> list[str]:
    return [match.uid[0] for match in await find(catalogue, Level.STUDY, *keys)]


def one_of(column: str, *values: str) -> OneOf:
    attribute = _BY_COLUMN[column]
    return OneOf(attribute, tuple(normal(attribute.vr, value) for value in values))


def like(column: str, *patterns: str) -> Like:
    attribute = _BY_COLUMN[column]
    return Like(attribute, tuple(normal(attribute.vr, pattern) for pattern in patterns))


def within(column: str, first: str | None, last: str | None) -> Within:
    return Within(_BY_COLUMN[column], first, last)


async def test_a_study_tells_what_is_below_it(catalogue: Catalogue) -> None:
    stands = row("1.2", "1.2.1", "1.2.1.2", minute=1)
    for added in (
        row("1.2", "1.2.1", "1.2.1.1", minute=5),
        stands,
        row("1.2", "1.2.2", "1.2.2.1", minute=7, modality="MR", sop_class=MR),
        row("1.2", "1.2.2", "1.2.2.1", minute=8, modality="MR", sop_class=MR, content="again"),
    ):
        await add(catalogue, added)
    (match,) = await find(catalogue, Level.STUDY)
    assert match.uid == ("1.2",)
    assert (match.header, match.version) == (stands.header, stands.version)
    assert (match.studies, match.series, match.instances) == (1, 2, 3)
    assert (match.modalities, match.sop_classes) == (("CT", "MR"), (CT, MR))


async def test_a_patient_has_the_studies_of_one_patient_id_and_issuer(catalogue: Catalogue) -> None:
    for n, (patient_id, issuer) in enumerate((("A", None), ("A", None), ("A", "X"), ("B", "X"))):
        await add(
            catalogue, row(f"1.{n}", f"1.{n}.1", f"1.{n}.1.1", patient_id=patient_id, issuer=issuer, minute=n)
        )
    found = await find(catalogue, Level.PATIENT)
    assert [(match.uid, match.studies, match.instances) for match in found] == [
        (("A\n",), 2, 2),
        (("A\nX",), 1, 1),
        (("B\nX",), 1, 1),
    ]
    assert found[0].version.instance.study_instance_uid == "1.0", "the earliest stands for the patient"


@pytest.mark.parametrize("patient_id", [None, "", "  "])
async def test_patients_without_a_patient_id_are_never_one(
    catalogue: Catalogue, patient_id: str | None
) -> None:
    for n in range(3):
        await add(catalogue, row(f"1.{n}", f"1.{n}.1", f"1.{n}.1.1", patient_id=patient_id))
    assert [match.studies for match in await find(catalogue, Level.PATIENT)] == [1, 1, 1]


async def test_series_and_instances_tell_where_they_belong(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.2", "1.2.1", "1.2.1.1"))
    await add(catalogue, row("1.2", "1.2.1", "1.2.1.2", modality="MR", sop_class=MR, minute=1))
    (series,) = await find(catalogue, Level.SERIES)
    assert (series.uid, series.instances, series.modalities) == (("1.2", "1.2.1"), 2, ("CT",))
    assert series.sop_classes == (CT, MR)
    first, second = await find(catalogue, Level.IMAGE)
    assert (first.uid, first.instances, first.series, first.studies) == (("1.2", "1.2.1", "1.2.1.1"), 1, 1, 1)
    assert (second.uid, second.sop_classes) == (("1.2", "1.2.1", "1.2.1.2"), (MR,))
    assert series.fingerprint == first.fingerprint ^ second.fingerprint != 0


async def test_an_instance_is_shown_as_its_current_version(catalogue: Catalogue) -> None:
    corrected = row(name="Roe^Jane", minute=0)
    await add(catalogue, row(minute=5))
    await add(catalogue, corrected)
    (match,) = await find(catalogue, Level.IMAGE)
    assert match.version == corrected.version
    assert match.order == 2


async def test_uids_select_at_each_level(catalogue: Catalogue) -> None:
    for study in ("1.1", "1.2"):
        for series in ("1", "2"):
            for sop in ("1", "2"):
                await add(
                    catalogue, row(study, f"{study}.{series}", f"{study}.{series}.{sop}", patient_id=study)
                )

    async def count(query: Query) -> int:
        return len([match async for match in catalogue.find(query, 100)])

    assert await count(by_uids()) == 8
    assert await count(by_uids(patient_id="1.1")) == 4
    assert await count(by_uids(patient_id="1.1", study=["1.1", "1.2"])) == 4
    assert await count(by_uids(study=["1.1", "1.2", "1.3"])) == 8
    assert await count(by_uids(study=["1.2"], series=["1.2.1", "1.1.1"])) == 2
    assert await count(by_uids(study=["1.2"], series=["1.2.1"], sop=["1.2.1.2"])) == 1
    assert await count(by_uids(sop=[f"9.{n}" for n in range(40_000)])) == 0
    assert await count(by_uids(study=["1.2"], level=Level.SERIES)) == 2


async def test_a_single_value_matches_exactly_but_names_without_case_and_accents(
    catalogue: Catalogue,
) -> None:
    await add(catalogue, row("1.1", name="Müller^Jürgen", character_set="ISO_IR 192", patient_id="aB"))
    await add(catalogue, row("1.2", name="Mueller^Juergen", patient_id="ab"))
    assert await studies(catalogue, one_of("patient_name", "MULLER^JURGEN")) == ["1.1"]
    assert await studies(catalogue, one_of("patient_id", "aB")) == ["1.1"]
    assert await studies(catalogue, one_of("patient_id", "a")) == []


async def test_a_patient_id_of_several_values_is_found_as_it_is_known(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", patient_id="A\\B"))
    await add(catalogue, row("1.2", patient_id="A"))
    found = [match.uid[0] async for match in catalogue.find(by_uids(patient_id="A\\B", level=Level.STUDY), 9)]
    assert found == ["1.1"]


async def test_many_conditions_are_not_too_many_for_a_catalogue(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", modality="CT"))
    in_study = ATTRIBUTES[0x00080061]
    every = [OneOf(in_study, (f"M{n}",)) for n in range(1500)]
    assert await studies(catalogue, *every) == []
    assert await studies(catalogue, *[OneOf(in_study, ("CT",))] * 1500) == ["1.1"]
    assert await studies(catalogue, like("patient_id", *(f"A{n}*" for n in range(64)))) == []
    assert await studies(catalogue, like("patient_id", f"P{'*' * 500}1", "x" * 60_000 + "*")) == ["1.1"]


async def test_wild_cards_match_any_characters_and_one(catalogue: Catalogue) -> None:
    for n, patient_id in enumerate(("AB1", "AB12", "AxB[1]", "A*B")):
        await add(catalogue, row(f"1.{n}", patient_id=patient_id))
    assert await studies(catalogue, like("patient_id", "AB*")) == ["1.0", "1.1"]
    assert await studies(catalogue, like("patient_id", "AB?")) == ["1.0"]
    assert await studies(catalogue, like("patient_id", "*[1]")) == ["1.2"]
    assert await studies(catalogue, like("patient_id", "a*")) == []
    assert await studies(catalogue, like("patient_id", "A?B", "AB1?")) == ["1.1", "1.3"]


async def test_ranges_have_both_ends_and_leave_out_what_is_empty(catalogue: Catalogue) -> None:
    for n, date in enumerate(("20240101", "20240102", "20240103", "", None)):
        await add(catalogue, row(f"1.{n}", study_date=date))
    assert await studies(catalogue, within("study_date", "20240102", None)) == ["1.1", "1.2"]
    assert await studies(catalogue, within("study_date", None, "20240102")) == ["1.0", "1.1"]
    assert await studies(catalogue, within("study_date", "20240102", "20240102")) == ["1.1"]


async def test_one_of_several_values_is_enough(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", study_date="20240101\\20240105"))
    await add(catalogue, row("1.2", name="Yamada^Tarou=山田^太郎", character_set="ISO_IR 192"))
    assert await studies(catalogue, one_of("study_date", "20240105")) == ["1.1"]
    assert await studies(catalogue, within("study_date", "20240104", None)) == ["1.1"]
    assert await studies(catalogue, within("study_date", "20240102", "20240104")) == []
    assert await studies(catalogue, like("patient_name", "山*")) == ["1.2"]


async def test_modalities_and_classes_in_study_match_any_of_the_study(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", "1.1.1", "1"))
    await add(catalogue, row("1.1", "1.1.2", "1", modality="SR", sop_class=MR))
    await add(catalogue, row("1.2", "1.2.1", "1"))
    in_study, classes = ATTRIBUTES[0x00080061], ATTRIBUTES[0x00080062]
    assert await studies(catalogue, OneOf(in_study, ("SR",))) == ["1.1"]
    assert await studies(catalogue, OneOf(in_study, ("CT", "US"))) == ["1.1", "1.2"]
    assert await studies(catalogue, Like(in_study, ("S*",))) == ["1.1"]
    assert await studies(catalogue, OneOf(classes, (MR,))) == ["1.1"]


async def test_keys_of_the_levels_above_select_too(catalogue: Catalogue) -> None:
    await add(catalogue, row("1.1", "1.1.1", "1", study_date="20240101", number="1"))
    await add(catalogue, row("1.2", "1.2.1", "1", study_date="20240102", number="2"))
    (image,) = await find(catalogue, Level.IMAGE, one_of("study_date", "20240102"), like("modality", "C*"))
    assert image.uid[0] == "1.2"
    (series,) = await find(catalogue, Level.SERIES, one_of("study_date", "20240101"))
    assert series.uid[0] == "1.1"
    (numbered,) = await find(catalogue, Level.IMAGE, one_of("instance_number", "02"))
    assert numbered.uid[0] == "1.2"


async def test_answers_are_ordered_and_no_more_than_the_limit(catalogue: Catalogue) -> None:
    uids = [f"1.{n}" for n in (10, 9, 100, 1, 20, 2)]
    for uid in uids:
        await add(catalogue, row(uid))
    assert await studies(catalogue) == sorted(uids)
    limited = await find(catalogue, Level.STUDY, limit=4)
    assert [match.uid[0] for match in limited] == sorted(uids)[:4]
    assert await find(catalogue, Level.STUDY, limit=0) == []


async def test_a_find_of_many_pages_gives_each_once(catalogue: Catalogue) -> None:
    rows = [row(sop=f"1.2.3.{n}") for n in range(450)]
    for added in rows:
        await add(catalogue, added)
    found = await find(catalogue, Level.IMAGE)
    assert [match.uid[2] for match in found] == sorted(
        added.version.instance.sop_instance_uid for added in rows
    )


async def test_a_find_that_is_left_early_does_no_harm(catalogue: Catalogue) -> None:
    for n in range(5):
        await add(catalogue, row(f"1.{n}"))
    finding = catalogue.find(Query(Level.STUDY), 10)
    assert (await anext(finding)).uid == ("1.0",)
    await finding.aclose()
    await add(catalogue, row("1.9"))
