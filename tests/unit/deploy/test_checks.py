from __future__ import annotations

from pathlib import Path

import pytest

from cluster.nouns import SiteIdentity
from cluster.settings import Settings, load
from deploy import checks, making, record, s3, sites
from storage_node.site.memory import MemoryObjects
from storage_node.site.s3_clock import ClockWatch


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A cluster of three folders, that says of itself that a is a bucket with nothing wrong."""
    folders = load(None, data_folder=tmp_path)
    making.prepare(folders)
    identities = {name: one.identity for name, one in record.of_sites(folders).items()}

    def opened(site: object, identity: SiteIdentity) -> MemoryObjects:
        return MemoryObjects(identity.name, identities[identity.name])

    monkeypatch.setattr(sites, "open_objects", opened)
    monkeypatch.setattr(s3, "problems", lambda site: [])
    tables = [site.model_dump(exclude_unset=True) for site in folders.sites]
    tables[0] |= {"objects": "s3://images", "endpoint": "https://minio-a.example"}
    return load(None, data_folder=tmp_path, sites=tables)


@pytest.mark.parametrize(("offset_s", "said"), [(-90.0, "90 s behind ours"), (7.2, "7 s ahead of ours")])
async def test_a_clock_that_is_off_is_one_line_that_names_site_and_setting(
    settings: Settings, offset_s: float, said: str
) -> None:
    ClockWatch("a").note(offset_s)
    (found,) = await checks.check(settings, {"a"})
    assert found.problems == (f"site a: the clock of https://minio-a.example (endpoint) is {said}",)


async def test_a_clock_that_is_nearly_right_is_no_problem(settings: Settings) -> None:
    ClockWatch("a").note(checks.CLOCK_TOLERANCE_S - 1)
    (found,) = await checks.check(settings, {"a"})
    assert found.problems == ()
