from __future__ import annotations

import tomllib

from cluster.settings import Settings, loads, shared
from deploy.settings_origins import Origin, settings_of

TEXT = """
[dicom]
port = 104
lenient_levels = true
[limits]
associations = 5
[worker.labels]
modality = "ct"
"""


def origins(cluster: shared.Document | None, *given: str) -> dict[str, tuple[object, Origin]]:
    settings = loads(TEXT, data_folder="/srv")
    if cluster is not None:
        settings = shared.apply(settings, shared.parse(cluster))
    found = settings_of(settings, file=tomllib.loads(TEXT), given=frozenset(given), cluster=cluster)
    return {one.key: (one.value, one.origin) for one in found}


def test_on_one_host_the_file_says_what_is_shared() -> None:
    found = origins(None, "data_folder")
    assert found["dicom.port"] == (104, Origin.FILE)
    assert found["dicom.lenient_levels"] == (True, Origin.FILE)
    assert found["limits.associations"] == (5, Origin.FILE)
    assert found["limits.find_matches"] == (Settings().limits.find_matches, Origin.DEFAULT)
    assert found["worker.labels"] == ({"modality": "ct"}, Origin.FILE)
    assert found["data_folder"] == ("/srv", Origin.COMMAND_LINE)
    assert found["peers"] == ([], Origin.DEFAULT)


def test_on_several_hosts_the_cluster_says_it_and_the_file_the_rest() -> None:
    found = origins({"limits": {"find_matches": 9}, "peers": [{"ae_title": "A"}]})
    assert found["dicom.port"] == (104, Origin.FILE)
    assert found["dicom.lenient_levels"] == (False, Origin.DEFAULT)
    assert found["limits.associations"] == (200, Origin.DEFAULT)
    assert found["limits.find_matches"] == (9, Origin.CLUSTER)
    assert found["peers"][1] is Origin.CLUSTER


def test_every_setting_has_an_origin_once() -> None:
    settings = Settings()
    found = settings_of(settings, file={}, given=frozenset(), cluster=None)
    assert len({one.key for one in found}) == len(found)
    assert {one.origin for one in found} == {Origin.DEFAULT}
    assert {"etcd.endpoints", "service.lease_s", "sites", "limits.associations"} <= {one.key for one in found}
