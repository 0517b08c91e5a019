"""What is stored in one character set is found, and told, in another: pynetdicom stores, and asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.presentation import build_context

from cluster.dicom import uids
from cluster.dicom.character_sets import repertoire
from storage_node.services.status import Status
from tests.integration.services.instances import CT
from tests.integration.services.node import EXPLICIT, IMPLICIT, Node, running_node
from tests.pynetdicom_peer import at_rest

JAPANESE, KOREAN = ["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 149"]
PATIENTS: dict[str, tuple[str | list[str] | None, str, str]] = {
    "1.1": (JAPANESE, "Yamada^Tarou=山田^太郎=やまだ^たろう", "胸部"),
    "1.2": (KOREAN, "Hong^Gildong=洪^吉洞=홍^길동", "흉부"),
    "1.3": ("GB18030", "Wang=乗^乘个=", "俓乗胸"),
    "1.4": ("ISO_IR 192", "Щукин^Иван", "Грудь"),
    "1.5": ("ISO_IR 100", "Müller^Jürgen", "Schädel"),
    "1.6": ("ISO_IR 144", "Щербаков^Пётр", "Голова"),
    "1.7": (None, "Doe^Jane", "Head"),
    "1.8": ("GBK", "Zhang=俓^俓俛", "肺乗"),
    "1.9": (JAPANESE, "Go=五人^与仁", "五乖予与"),
}
"""Character set, name and description of a study by its UID. Bytes of characters of the last two, and of 1.3,
would delimit values or components, or be wild cards."""


def _image(study: str) -> Dataset:
    character_set, name, description = PATIENTS[study]
    image = Dataset()
    if character_set is not None:
        image.SpecificCharacterSet = character_set
    image.SOPClassUID, image.SOPInstanceUID = CT, f"{study}.1.1"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, f"{study}.1"
    image.PatientName, image.PatientID, image.Modality = name, f"P{study}", "CT"
    image.StudyDescription = description
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    return image


def _store(port: int) -> list[int]:
    ae = AE()
    ae.add_requested_context(CT, EXPLICIT)
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    statuses = [at_rest(association).send_c_store(_image(study)).Status for study in PATIENTS]
    association.release()
    return statuses


def _find(port: int, query: Dataset, syntax: str = EXPLICIT, calling_ae: str = "TESTER") -> list[Dataset]:
    ae = AE(ae_title=calling_ae)
    ae.requested_contexts = [build_context(uids.STUDY_ROOT_FIND, syntax)]
    association = ae.associate("127.0.0.1", port)
    assert association.is_established
    responses = list(at_rest(association).send_c_find(query, uids.STUDY_ROOT_FIND))
    association.release()
    assert responses[-1][0].Status == Status.SUCCESS
    return [found for _, found in responses if found is not None]


def _query(character_set: str | Sequence[str] | None, **keys: str) -> Dataset:
    query = Dataset()
    if character_set is not None:
        query.SpecificCharacterSet = character_set
    query.QueryRetrieveLevel = "STUDY"
    query.StudyInstanceUID = query.StudyDescription = query.PatientName = ""
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[Node]:
    peers = [{"ae_title": "OLD", "character_set": "ISO_IR 100"}]
    async with running_node(tmp_path / "data", peers=peers) as node:
        assert await asyncio.to_thread(_store, node.port) == [Status.SUCCESS] * len(PATIENTS)
        yield node


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
async def test_a_name_is_found_from_any_set_that_has_it_and_told_in_that(filled: Node, syntax: str) -> None:
    asked: list[tuple[str, str | list[str], str]] = [
        ("1.1", "ISO_IR 192", "*=山田^*=*"),
        ("1.1", "ISO_IR 192", "*太郎*"),
        ("1.1", JAPANESE, "*=山?^太郎=*"),
        ("1.2", "ISO_IR 192", "*=洪^吉?=*"),
        ("1.2", KOREAN, "홍^길*"),
        ("1.3", "GB18030", "*=乗^*"),
        ("1.3", "ISO_IR 192", "Wang=乗^乘个*"),
        ("1.4", "ISO_IR 192", "щукин^*"),
        ("1.4", "ISO_IR 144", "Щукин^Иван"),
        ("1.4", ["ISO 2022 IR 6", "ISO 2022 IR 144"], "Щукин^Иван"),
        ("1.5", "ISO_IR 100", "MÜLLER^*"),
        ("1.5", "ISO_IR 192", "müller^j?rgen"),
        ("1.5", "GB18030", "Müller^Jürgen"),
        ("1.6", "ISO_IR 144", "Щербаков^*"),
        ("1.8", "GBK", "Zhang=俓^俓俛"),
        ("1.8", "ISO_IR 192", "Zhang=俓^俓?"),
        ("1.9", JAPANESE, "Go=五人^与仁"),
        ("1.9", "ISO_IR 192", "Go=五?^*"),
    ]
    for study, character_set, name in asked:
        query = _query(character_set, PatientName=name)
        found = await asyncio.to_thread(_find, filled.port, query, syntax)
        told = [(str(answer.StudyInstanceUID), answer.get("SpecificCharacterSet")) for answer in found]
        expected = character_set if _has(character_set, "".join(PATIENTS[study][1:])) else "ISO_IR 192"
        assert told == [(study, expected)], name
        _, full, description = PATIENTS[study]
        assert (str(found[0].PatientName), found[0].StudyDescription) == (full.rstrip("="), description)


def _has(character_set: str | list[str], text: str) -> bool:
    """Return whether a character set has all characters of a text."""
    terms = character_set if isinstance(character_set, str) else "\\".join(character_set)
    return repertoire(terms.encode()).encode(text, "PN") is not None


async def test_each_answer_has_the_set_that_it_needs(filled: Node) -> None:
    for character_set in (None, "ISO_IR 192"):
        found = await asyncio.to_thread(_find, filled.port, _query(character_set))
        told = {str(a.StudyInstanceUID): a.get("SpecificCharacterSet") for a in found}
        assert told == {study: "ISO_IR 192" if study != "1.7" else None for study in PATIENTS}
        for answer in found:
            _, name, description = PATIENTS[str(answer.StudyInstanceUID)]
            assert (str(answer.PatientName), answer.StudyDescription) == (name.rstrip("="), description)


async def test_a_peer_of_the_settings_is_answered_in_its_set(filled: Node) -> None:
    query = _query("ISO_IR 192", PatientName="Müller*")
    (found,) = await asyncio.to_thread(_find, filled.port, query, EXPLICIT, "OLD")
    assert (found.SpecificCharacterSet, str(found.PatientName)) == ("ISO_IR 100", "Müller^Jürgen")


async def test_bytes_within_characters_are_no_wild_cards_and_delimit_nothing(filled: Node) -> None:
    for study, character_set in (("1.3", "GB18030"), ("1.8", "GBK"), ("1.9", JAPANESE)):
        description = PATIENTS[study][2]
        assert any(
            byte in description.encode("iso2022_jp" if study == "1.9" else "gbk") for byte in b"\\*?^="
        )
        for asked in (character_set, "ISO_IR 192"):
            query = _query(asked, StudyDescription=description)
            found = await asyncio.to_thread(_find, filled.port, query)
            assert [str(answer.StudyInstanceUID) for answer in found] == [study]
        query = _query(character_set, StudyDescription=f"?{description[1:]}")
        assert len(await asyncio.to_thread(_find, filled.port, query)) == 1
