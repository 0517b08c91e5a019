from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from deploy.client.files import MAX_CONTEXTS, DicomFile, plan, walk


def file(number: int, sop_class: str = "1.2", syntax: str = "1.2.840.10008.1.2.1") -> DicomFile:
    return DicomFile(Path(f"{number}.dcm"), sop_class, f"1.2.{number}", syntax, 132, 1000)


some_files = st.lists(
    st.tuples(st.integers(0, 300), st.sampled_from(["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"])),
    max_size=400,
).map(lambda pairs: [file(i, f"1.2.3.{sop_class}", syntax) for i, (sop_class, syntax) in enumerate(pairs)])


@given(some_files, st.integers(1, 8))
def test_every_file_is_in_one_batch_in_its_order(files: list[DicomFile], associations: int) -> None:
    batches = plan(files, associations)
    assert [one for batch in batches for one in batch.files] == files


@given(some_files, st.integers(1, 8))
def test_no_batch_needs_more_contexts_than_there_are_ids(files: list[DicomFile], associations: int) -> None:
    for batch in plan(files, associations):
        assert 0 < len(batch.contexts) <= MAX_CONTEXTS
        assert {one.context for one in batch.files} == set(batch.contexts)


def test_more_contexts_than_there_are_ids_take_another_association() -> None:
    batches = plan([file(i, f"1.2.3.{i}") for i in range(300)], associations=1)
    assert [len(batch.contexts) for batch in batches] == [128, 128, 44]


@given(st.integers(1, 200), st.integers(1, 8))
def test_like_files_are_shared_out_evenly(count: int, associations: int) -> None:
    sizes = [len(batch.files) for batch in plan([file(i) for i in range(count)], associations)]
    assert len(sizes) <= associations
    assert max(sizes) == -(-count // associations)


def test_folders_are_walked_in_order_and_files_taken_as_named(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "single").touch()
    found = walk([tmp_path / "single", tmp_path / "b", tmp_path / "a"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["single", "b/1", "b/2", "a/3"]
