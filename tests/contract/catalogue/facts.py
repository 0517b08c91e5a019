"""Facts of all kinds, drawn at random about a few studies and what is in them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from cluster.nouns import Fact, FactKind, Instance, Level
from storage_node.catalogue.protocol import Row
from tests.contract.catalogue.rows import fact

PATIENTS = ("P1\n", "P1\nX", "A\n", "A\nX", "B1\n", "B2\n", "\n1.1")
_OF_STUDIES = {
    "00100010": st.sampled_from(["A", "B2", "C=A", "", "Müller^Jürgen"]),
    "00100020": st.sampled_from(["P1", "A", "B1", "B2", ""]),
    "00100021": st.sampled_from(["X", ""]),
    "00080020": st.sampled_from(["20240101", "20240102\\20240103"]),
    "00081030": st.sampled_from(["corrected"]),
}
_OF_SERIES = {"00080060": st.sampled_from(["CT", "MR", "CT\\US", ""]), "0008103E": st.just("corrected")}


def facts(
    rows: Sequence[Row] = (), *, studies: int = 3, sops: int = 2, epochs: int = 2, max_size: int = 5
) -> st.SearchStrategy[list[Fact]]:
    """Facts about instances `1.study.series.sop` and what is above them; versions of `rows` are chosen."""
    instances = st.builds(
        lambda study, series, sop: Instance(f"1.{study}", f"1.{study}.{series}", f"1.{study}.{series}.{sop}"),
        st.integers(1, studies),
        st.integers(1, 2),
        st.integers(1, sops),
    )
    above = instances.flatmap(lambda instance: st.sampled_from(instance.above))
    subjects = st.one_of(instances, above, st.sampled_from(PATIENTS).map(Instance.patient))
    digests = st.sampled_from(sorted({row.version.digest for row in rows}) or ["none"])

    def about(subject: Instance) -> st.SearchStrategy[Fact]:
        if subject.level is Level.IMAGE:
            kinds = [kind for kind in FactKind if kind is not FactKind.CORRECTED]
            return st.builds(_fact, st.just(subject), st.integers(1, epochs), st.sampled_from(kinds), digests)
        texts = _OF_SERIES if subject.level is Level.SERIES else _OF_STUDIES
        details = st.fixed_dictionaries({}, optional=texts).map(lambda some: tuple(sorted(some.items())))
        return st.builds(_correction, st.just(subject), st.integers(1, epochs), details)

    return st.lists(subjects.flatmap(about), max_size=max_size)


def _fact(subject: Instance, epoch: int, kind: FactKind, digest: str) -> Fact:
    return fact(subject, epoch, kind, details=(("digest", digest),) if kind is FactKind.CHOSEN else ())


def _correction(subject: Instance, epoch: int, details: tuple[tuple[str, str], ...]) -> Fact:
    return fact(subject, epoch, FactKind.CORRECTED, details=details)
