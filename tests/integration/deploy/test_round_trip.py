from __future__ import annotations

import json
from pathlib import Path

from pydicom import dcmread

from deploy.client.files import recognise
from tests.integration.deploy.atria import Up, atria, up


def data_set(path: Path) -> bytes:
    return b"".join(recognise(path).data_set())


def test_what_is_sent_is_found_and_comes_back_byte_for_byte(
    running: Up, images: list[Path], tmp_path: Path
) -> None:
    sent = atria("send", "--data", running.data, "--json", tmp_path / "images")
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["stored"] == len(images)

    study = str(dcmread(images[0]).StudyInstanceUID)
    found = atria("find", "--to", running.address, f"StudyInstanceUID={study}", "--json")
    assert found.returncode == 0, found.stderr
    (match,) = json.loads(found.stdout)
    assert match["00201208"]["Value"] == [len(images)]

    got = atria("get", "--to", running.address, "--study", study, "--out", tmp_path / "out", "--json")
    assert got.returncode == 0, got.stderr
    received = {path.stem: path for path in map(Path, json.loads(got.stdout)["received"])}
    assert len(received) == len(images)
    for image in images:
        back = received[str(dcmread(image).SOPInstanceUID)]
        assert data_set(back) == data_set(image)
        assert dcmread(back).file_meta.TransferSyntaxUID == dcmread(image).file_meta.TransferSyntaxUID

    assert atria("verify", "--data", running.data).returncode == 0


def test_one_series_and_one_instance_can_be_had_alone(
    running: Up, images: list[Path], tmp_path: Path
) -> None:
    assert atria("send", "--to", running.address, *images).returncode == 0
    image = dcmread(images[0])
    atria("get", "--to", running.address, "--series", image.SeriesInstanceUID, "--out", tmp_path / "series")
    assert len(list((tmp_path / "series").rglob("*.dcm"))) == 3
    atria("get", "--to", running.address, "--sop", image.SOPInstanceUID, "--out", tmp_path / "one")
    assert [path.stem for path in (tmp_path / "one").rglob("*.dcm")] == [image.SOPInstanceUID]


def test_what_is_no_image_is_skipped_and_said(running: Up, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "images" / "README").write_text("not an image")
    sent = atria("send", "--to", running.address, tmp_path / "images")
    assert sent.returncode == 0
    assert f"{len(images)} stored, 0 failed, 1 skipped" in sent.stdout
    assert "README: no DICOM" in sent.stdout


def test_a_file_that_cannot_be_stored_is_named_with_its_status_and_exits_1(
    running: Up, images: list[Path], tmp_path: Path
) -> None:
    broken = dcmread(images[0])
    del broken.StudyInstanceUID
    broken.save_as(images[0])
    sent = atria("send", "--to", running.address, *images)
    assert sent.returncode == 1
    assert f"failed: {images[0]}: 0xC000" in sent.stdout
    assert f"{len(images) - 1} stored, 1 failed" in sent.stdout


def test_tables_are_for_people(running: Up, images: list[Path]) -> None:
    assert atria("send", "--to", running.address, *images).returncode == 0
    found = atria("find", "--to", running.address)
    assert str(dcmread(images[0]).StudyInstanceUID) in found.stdout
    status = atria("status", "--data", running.data)
    assert status.returncode == 0
    for word in ("balancer", "worker-1", "worker-2", "upkeep", running.address, "up"):
        assert word in status.stdout


def test_patients_are_found_without_naming_the_model(running: Up, images: list[Path]) -> None:
    assert atria("send", "--to", running.address, *images).returncode == 0
    found = atria("find", "--to", running.address, "--level", "patient", "--json")
    assert found.returncode == 0, found.stderr
    assert "00201200" in json.loads(found.stdout)[0]


def test_nobody_to_call_is_one_clear_line(tmp_path: Path, images: list[Path]) -> None:
    nobody = atria("find", "--data", tmp_path / "none")
    assert nobody.returncode == 2
    assert nobody.stderr.strip() == (
        f"atria: no cluster runs in {tmp_path}/none: start one with `atria up`, or name another with --to"
    )
    gone = atria("send", "--to", "127.0.0.1:1", "--retries", 1, images[0])
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stdout


def test_status_and_verify_of_a_folder_without_a_cluster_say_so(tmp_path: Path) -> None:
    for command in ("status", "verify"):
        answer = atria(command, "--data", tmp_path)
        assert answer.returncode == 2
        assert answer.stderr.strip() == f"atria: there is no cluster in {tmp_path}: start one with `atria up`"


def test_a_query_that_one_site_answers_alone_says_so(tmp_path: Path, images: list[Path]) -> None:
    with up(tmp_path / "data") as cluster:
        assert atria("send", "--to", cluster.address, *images).returncode == 0
        for site in ("a", "b"):
            (tmp_path / "data" / f"site-{site}").rename(tmp_path / f"site-{site}")
        found = atria("find", "--to", cluster.address, "--json")
        assert found.returncode == 0, found.stderr
        assert len(json.loads(found.stdout)) == 1
        assert "may be missing" in found.stderr
        refused = atria("send", "--to", cluster.address, "--retries", 1, *images)
        assert refused.returncode == 1
        assert "0xA700" in refused.stdout
        processes = [one for one in cluster.look().processes if one.kind != "balancer"]
        workers = [one.state for one in processes if one.kind == "worker"]
        assert all(state.startswith("1 of 2 sites needed to store take writes (a: ") for state in workers)
        assert [one.state for one in processes if one.kind == "upkeep"] == [
            "1 of 2 sites needed to repair are up"
        ]
