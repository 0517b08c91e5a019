from __future__ import annotations

from pathlib import Path

import pytest

from cluster.settings import Settings, SettingsError, load, loads, shared
from cluster.settings.live import LiveSettings

OWN = """
data_folder = "/srv/atria"
site = "b"
[dicom]
ae_title = "OURS"
port = 104
character_set = "ISO_IR 100"
[http]
port = 8000
[writing]
copies_before_success = 3
"""
SHARED: dict[str, object] = {
    "dicom": {"check_calling_ae_title": True},
    "limits": {"associations": 5, "queue_timeout_s": 1.5},
    "destinations": [{"ae_title": "WS", "host": "ws", "port": 104}],
    "peers": [{"ae_title": "CT", "lenient_levels": True}],
    "routes": [{"source": "10.1.0.0/16", "workers": {"site": "a"}, "only": True}],
}


def test_what_one_host_alone_can_know_stays_its_own() -> None:
    settings = shared.apply(loads(OWN), shared.parse(SHARED))
    assert settings.data_folder == Path("/srv/atria")
    assert (settings.site, settings.http.port, settings.writing.copies_before_success) == ("b", 8000, 3)
    assert (settings.dicom.ae_title, settings.dicom.port) == ("OURS", 104)
    assert settings.sites == loads(OWN).sites


def test_what_is_shared_takes_the_place_of_all_that_the_file_says_of_it() -> None:
    settings = shared.apply(loads(OWN + "[limits]\nassociations = 9\nfind_matches = 9"), shared.parse(SHARED))
    assert shared.document(settings) == SHARED
    assert settings.limits.find_matches == Settings().limits.find_matches
    assert settings.dicom.character_set is None
    assert settings.peer("CT").lenient_levels


def test_a_document_says_what_is_set_and_not_what_is_left_to_its_default() -> None:
    assert shared.document(loads(OWN)) == {"dicom": {"character_set": "ISO_IR 100"}}
    assert shared.document(Settings()) == {}
    assert shared.document(loads("[limits]\nassociations = 200")) == {"limits": {"associations": 200}}


def test_a_document_is_read_as_it_was_written() -> None:
    assert shared.document(shared.parse(SHARED)) == SHARED
    settings = shared.apply(Settings(), shared.parse(SHARED))
    assert shared.of(settings) == shared.parse(SHARED)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"limits": {"more": 1}}, "limits.more: there is no such setting"),
        ({"writing": {"copies_before_success": 1}}, "writing: there is no such setting"),
        ({"dicom": {"port": 104}}, "dicom.port: there is no such setting"),
        ({"limits": {"associations": 0}}, "limits.associations: expected greater than 0, found 0"),
        ({"routes": [{"source": "10.1.2.3/16"}]}, "routes.0.source: expected a network, as 10.1.0.0/16"),
        (
            {"destinations": [{"ae_title": "A", "host": "h", "port": 1}] * 2},
            "destinations: each needs an ae_title of its own, found A, A",
        ),
        ([], "expected a valid dictionary"),
    ],
)
def test_nothing_that_this_release_does_not_know_is_passed_over(document: object, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        shared.parse(document)
    assert str(caught.value).startswith(said)


def test_differences_are_told_by_key() -> None:
    other = {**SHARED, "limits": {"associations": 6}, "peers": []}
    assert shared.differences(SHARED, other) == ["limits.associations", "limits.queue_timeout_s", "peers"]
    assert shared.differences(SHARED, dict(SHARED)) == []


def test_those_that_are_known_are_peers_and_destinations() -> None:
    assert shared.parse(SHARED).known_aes == {"WS", "CT"}


def test_who_follows_is_told_at_once_and_after_each_change() -> None:
    live = LiveSettings(Settings())
    told: list[int] = []
    live.follow(lambda now: told.append(now.limits.associations))
    changed = shared.apply(live.now, shared.parse(SHARED))
    live.change(changed)
    assert told == [200, 5]
    assert live.now is changed


def test_a_file_that_names_a_destination_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "atria.toml"
    file.write_text('[[destinations]]\nae_title = "A"\nhost = "h"\nport = 1\n' * 2)
    with pytest.raises(SettingsError, match="destinations: each needs an ae_title of its own, found A, A"):
        load(file)
