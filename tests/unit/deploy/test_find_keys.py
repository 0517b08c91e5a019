from __future__ import annotations

import pytest

from cluster.dicom.transfer_syntaxes import SERVICE_ORDER
from deploy.client.find import decode, encode, identifier, parse_keys
from deploy.errors import UserError


def test_keys_are_read_by_keyword_with_and_without_value() -> None:
    assert parse_keys(["PatientID=1=2", "Modality"]) == {"PatientID": "1=2", "Modality": ""}


def test_a_word_that_is_no_keyword_is_named_in_the_error() -> None:
    with pytest.raises(UserError, match="PatienID"):
        parse_keys(["PatienID=1"])


@pytest.mark.parametrize("syntax", SERVICE_ORDER)
def test_an_identifier_survives_encoding_with_ranges_lists_and_wild_cards(syntax: str) -> None:
    keys = {
        "StudyDate": "20200101-20201231",
        "StudyInstanceUID": "1.2\\1.3",
        "PatientName": "Müll*",
        "StudyTime": "10-",
    }
    back = decode(encode(identifier("STUDY", keys), syntax), syntax)
    assert back.QueryRetrieveLevel == "STUDY"
    assert back.StudyDate == "20200101-20201231"
    assert list(back.StudyInstanceUID) == ["1.2", "1.3"]
    assert str(back.PatientName) == "Müll*"
    assert back.SpecificCharacterSet == "ISO_IR 192"
    assert "NumberOfStudyRelatedInstances" in back


def test_what_is_no_value_of_its_vr_is_for_the_peer_to_refuse() -> None:
    assert identifier("STUDY", {"StudyDate": "2020-01-01"}).StudyDate == "2020-01-01"
