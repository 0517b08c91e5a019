from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.client.files import MAX_CONTEXTS
from deploy.client.get import file_of, plan
from deploy.client.locate import Located

instances = st.builds(
    Located,
    study_instance_uid=st.sampled_from(["1.1", "1.2"]),
    series_instance_uid=st.sampled_from(["2.1", "2.2", "2.3"]),
    sop_instance_uid=st.uuids().map(str),
    sop_class_uid=st.integers(0, 200).map(lambda i: f"1.2.3.{i}"),
    transfer_syntax_uids=st.sampled_from(
        [("1.2.840.10008.1.2.1",), ("1.2.840.10008.1.2", "1.2.840.10008.1.2.5")]
    ),
)


@given(st.lists(instances, max_size=450))
def test_every_instance_is_asked_for_once(wanted: list[Located]) -> None:
    asked = [one for requests in plan(wanted) for request in requests for one in request.instances]
    assert sorted(asked, key=repr) == sorted(wanted, key=repr)


@given(st.lists(instances, max_size=450))
def test_a_request_names_instances_of_one_series(wanted: list[Located]) -> None:
    for requests in plan(wanted):
        for request in requests:
            assert len({(one.study_instance_uid, one.series_instance_uid) for one in request.instances}) == 1


@given(st.lists(instances, max_size=450))
def test_an_association_has_room_for_the_query_context(wanted: list[Located]) -> None:
    for requests in plan(wanted):
        assert len(frozenset().union(*(request.contexts for request in requests))) < MAX_CONTEXTS


def test_more_contexts_than_fit_beside_the_query_take_another_association() -> None:
    def sizes(series: Callable[[int], str]) -> list[list[int]]:
        wanted = [
            Located("1.1", series(i), f"3.{i:03}", f"1.2.3.{i}", ("1.2.840.10008.1.2.1",)) for i in range(300)
        ]
        return [[len(request.instances) for request in requests] for requests in plan(wanted)]

    assert sizes(lambda i: "2.1") == [[127], [127], [46]]
    assert sizes(lambda i: f"2.{i:03}") == [[1] * 127, [1] * 127, [1] * 46]


@pytest.mark.parametrize("uid", ["..", ".", "../../etc/passwd", "/etc/passwd", "1.2/3", "1.2\n3", "%2e%2e"])
def test_no_uid_leads_out_of_the_folder(tmp_path: Path, uid: str) -> None:
    for place in range(3):
        uids = ["1.2", "1.3", "1.4"]
        uids[place] = uid
        file = file_of(tmp_path, Located(uids[0], uids[1], uids[2], "1.2.3", ()))
        assert file.resolve().is_relative_to(tmp_path)
        assert len(file.resolve().relative_to(tmp_path).parts) == 3


def test_plain_uids_are_file_names_as_they_are(tmp_path: Path) -> None:
    assert (
        file_of(tmp_path, Located("1.2", "1.3", "1.4", "1.2.3", ())) == tmp_path / "1.2" / "1.3" / "1.4.dcm"
    )
