from __future__ import annotations

import pytest

from cluster.settings import Route, SettingsError
from cluster.settings.shared import SharedSettings, document, parse
from deploy.settings_changes import (
    SETTABLE,
    Ae,
    with_ae,
    with_route,
    with_value,
    without_ae,
    without_route,
    without_value,
)

NONE = SharedSettings()
THREE = parse({"routes": [{"calling_ae": title} for title in "ABC"]})


def callers(settings: SharedSettings) -> str:
    return "".join(str(route.calling_ae) for route in settings.routes)


def test_an_ae_of_which_nothing_is_said_is_known() -> None:
    assert document(with_ae(NONE, Ae("CT1 "))) == {"peers": [{"ae_title": "CT1"}]}


def test_an_ae_with_an_address_is_a_destination_and_nothing_else() -> None:
    added = with_ae(NONE, Ae("WS", host="ws", port=104, as_stored=True))
    assert document(added) == {
        "destinations": [{"ae_title": "WS", "host": "ws", "port": 104, "as_stored": True}]
    }


def test_an_ae_may_be_both() -> None:
    added = with_ae(NONE, Ae("WS", host="ws", port=104, show_rejected=True))
    assert added.known_aes == {"WS"}
    assert (len(added.destinations), len(added.peers)) == (1, 1)


def test_what_is_said_of_an_ae_that_is_there_changes_it_and_leaves_the_rest() -> None:
    added = with_ae(NONE, Ae("WS", host="ws", port=104, character_set="ISO_IR 100"))
    changed = with_ae(with_ae(added, Ae("WS", port=105)), Ae("WS", lenient_levels=True))
    assert document(changed) == {
        "destinations": [{"ae_title": "WS", "host": "ws", "port": 105}],
        "peers": [{"ae_title": "WS", "character_set": "ISO_IR 100", "lenient_levels": True}],
    }


@pytest.mark.parametrize("ae", [Ae("WS", host="ws"), Ae("WS", port=104), Ae("WS", as_stored=True)])
def test_a_destination_needs_a_host_and_a_port(ae: Ae) -> None:
    with pytest.raises(SettingsError, match="WS is no destination yet: give its --host and its --port"):
        with_ae(NONE, ae)


@pytest.mark.parametrize("host", ["", " ", "[fd00::1]", "10.0.0.1:104", "two words", "dicom://ws", "fd00::x"])
def test_a_host_that_nobody_could_call_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match=r"destinations\.0\.host: expected a name or an IP address"):
        with_ae(NONE, Ae("WS", host=host, port=104))


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "fd00::1", "fe80::1%eth0", "ws", "ws.radiology.example", "ws_2"]
)
def test_a_host_may_be_a_name_or_an_address(host: str) -> None:
    assert with_ae(NONE, Ae("WS", host=host, port=104)).destinations[0].host == host


def test_an_ae_title_that_is_none_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"peers\.0\.ae_title: expected 1 to 16 ASCII characters"):
        with_ae(NONE, Ae("A\\B"))


def test_an_ae_that_is_removed_is_neither_destination_nor_peer() -> None:
    added = with_ae(with_ae(NONE, Ae("WS", host="ws", port=104, show_rejected=True)), Ae("CT1"))
    assert document(without_ae(added, "WS")) == {"peers": [{"ae_title": "CT1"}]}
    with pytest.raises(SettingsError, match="there is no AE NOBODY: known are CT1, WS"):
        without_ae(added, "NOBODY")


@pytest.mark.parametrize(("before", "order"), [(None, "ABCX"), (1, "XABC"), (3, "ABXC")])
def test_a_route_is_put_where_it_is_wanted(before: int | None, order: str) -> None:
    assert callers(with_route(THREE, Route(calling_ae="X"), before=before)) == order


def test_a_route_for_all_stays_the_last_unless_it_is_put_elsewhere() -> None:
    for_all = with_route(THREE, Route(workers={"site": "a"}), before=None)
    assert callers(for_all) == "ABCNone"
    assert callers(with_route(for_all, Route(calling_ae="X"), before=None)) == "ABCXNone"
    assert callers(with_route(for_all, Route(workers={"site": "b"}), before=None)) == "ABCNoneNone"
    assert callers(with_route(THREE, Route(), before=2)) == "ANoneBC"


def test_a_route_keeps_all_that_was_said_of_it() -> None:
    route = Route.model_validate({"source": "fd00::/8", "workers": {"site": "a"}, "only": True})
    assert with_route(NONE, route, before=None).routes == (route,)


def test_a_route_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match="there is no route 4: there are 3"):
        with_route(THREE, Route(), before=4)
    with pytest.raises(SettingsError, match="there is no route 1: there is none"):
        with_route(NONE, Route(), before=1)


def test_a_route_is_removed_by_its_number_unless_it_is_another_by_now() -> None:
    assert callers(without_route(THREE, 2, Route(calling_ae="B"))) == "AC"
    with pytest.raises(SettingsError, match="somebody else has just changed the routes"):
        without_route(THREE, 2, Route(calling_ae="C"))


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("limits.associations", "7", 7),
        ("limits.queue_timeout_s", "1.5", 1.5),
        ("dicom.lenient_levels", "true", True),
        ("dicom.character_set", "ISO_IR 100", "ISO_IR 100"),
        ("dicom.character_set", '"ISO_IR 192"', "ISO_IR 192"),
    ],
)
def test_a_value_is_given_as_a_word(key: str, word: str, value: object) -> None:
    table, name = key.split(".")
    changed = with_value(NONE, key, word)
    assert document(changed) == {table: {name: value}}
    assert without_value(changed, key) == NONE


@pytest.mark.parametrize(
    ("key", "word", "said"),
    [
        ("limits.associations", "-1", "limits.associations: expected greater than 0, found -1"),
        ("limits.associations", "many", "limits.associations: expected a valid integer"),
        ("limits.associations", "2024-01-01", "limits.associations: expected a valid integer"),
        ("dicom.character_set", "LATIN", "dicom.character_set: expected a Defined Term"),
        ("limits.nonsense", "1", "limits.nonsense: there is no such setting"),
        ("limits", "1", "limits: is a table: name one of its keys, as limits.associations"),
        ("http.port", "1", "http.port: is each host's own: set it in its settings file"),
        ("dicom.port", "1", "dicom.port: is each host's own"),
        ("data_folder", "/", "data_folder: is each host's own"),
        ("routes", "1", "routes: is a list: change it with `atria route`"),
        ("peers.0.ae_title", "A", "peers.0.ae_title: is a list: change it with `atria ae`"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(key: str, word: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        with_value(NONE, key, word)
    assert str(caught.value).startswith(said)


def test_all_that_is_shared_and_no_list_can_be_set() -> None:
    assert "limits.balancer_associations" in SETTABLE
    assert "dicom.check_called_ae_title" in SETTABLE
    assert "dicom.port" not in SETTABLE
