from __future__ import annotations

import ipaddress

from balancer.admission import refusal_of
from balancer.associate_rq import a_associate_rj
from balancer.caller import Caller
from balancer.ceilings import Ceilings
from cluster.settings import Settings

SOURCE = ipaddress.ip_address("10.0.0.1")
STRICT = {"ae_title": "ATRIA", "check_called_ae_title": True, "check_calling_ae_title": True}
KNOWN: dict[str, object] = {
    "peers": [{"ae_title": "CT"}],
    "destinations": [{"ae_title": "WORKSTATION", "host": "10.0.0.9", "port": 104}],
}


def told(called: str | None, calling: str | None, there_are: int = 0, /, **tables: object) -> str | None:
    caller = Caller(SOURCE, called, calling)
    ceilings = Ceilings("balancer-1")
    for _ in range(there_are):
        ceilings.enter(caller)
    found = refusal_of(caller, Settings.model_validate(tables), ceilings)
    return "/".join(str(byte) for byte in a_associate_rj(found.reason)[7:]) if found else None


def test_all_titles_are_taken_unless_they_are_checked() -> None:
    assert told("ANY", "ANY") is None


def test_another_called_title_is_rejected_for_ever() -> None:
    assert told("OTHER", "CT", dicom=STRICT, **KNOWN) == "1/1/7"
    assert told("ATRIA", "CT", dicom=STRICT, **KNOWN) is None


def test_a_calling_title_is_known_as_a_peer_or_as_a_destination() -> None:
    assert told("ATRIA", "CT", dicom=STRICT, **KNOWN) is None
    assert told("ATRIA", "WORKSTATION", dicom=STRICT, **KNOWN) is None
    assert told("ATRIA", "STRANGER", dicom=STRICT, **KNOWN) == "1/1/3"


def test_titles_that_nobody_can_read_are_the_workers_to_check() -> None:
    assert told(None, None, dicom=STRICT) is None


def test_a_ceiling_is_told_as_a_local_limit() -> None:
    for limit in ("balancer_associations", "calling_ae_associations", "source_associations"):
        assert told("ATRIA", "CT", 2, limits={limit: 2}) == "2/3/2"
        assert told("ATRIA", "CT", 1, limits={limit: 2}) is None


def test_what_is_wrong_for_ever_is_told_before_what_is_so_for_now() -> None:
    full = {"balancer_associations": 1}
    assert told("OTHER", "STRANGER", 1, dicom=STRICT, limits=full) == "1/1/7"
    assert told("ATRIA", "STRANGER", 1, dicom=STRICT, limits=full) == "1/1/3"


def test_the_log_is_told_which_setting_and_why() -> None:
    caller = Caller(SOURCE, "ATRIA", "STRANGER")
    found = refusal_of(caller, Settings.model_validate({"dicom": STRICT}), Ceilings("balancer-1"))
    assert found is not None
    assert (found.setting, found.why) == (
        "dicom.check_calling_ae_title",
        "STRANGER is neither a peer nor a destination",
    )
