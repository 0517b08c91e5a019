from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.integration.deploy.atria import Up, up


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A cluster that tests share."""
    with up(tmp_path_factory.mktemp("cluster") / "data") as cluster:
        yield cluster


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Two series of one new study: CT in Explicit VR, MR in RLE."""
    study = generate_uid()
    files = []
    for name in ("CT_small.dcm", "MR_small_RLE.dcm"):
        series = generate_uid()
        for number in range(3):
            data_set = dcmread(str(get_testdata_file(name)))
            data_set.StudyInstanceUID, data_set.SeriesInstanceUID = study, series
            data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            files.append(tmp_path / "images" / f"{name}-{number}")
            files[-1].parent.mkdir(exist_ok=True)
            data_set.save_as(files[-1])
    return files
