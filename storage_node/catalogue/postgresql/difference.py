"""What is another about an instance after some changes: what is kept of its series and study follows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from storage_node.catalogue import corrections
from storage_node.catalogue.columns import version_row
from storage_node.catalogue.postgresql.known import Known

if TYPE_CHECKING:
    from cluster.nouns import Instance
    from storage_node.catalogue.protocol import Met, Row


@dataclass(frozen=True, slots=True)
class Ranked:
    """A version that is new, or has another rank than before."""

    rank: str
    digest: str
    header: bytes


@dataclass(frozen=True, slots=True)
class Difference:
    """What some changes of one instance add to the entities above it."""

    instance: Instance
    shown: int
    """1 if it is in answers now, and was not; -1 if it was, and is not."""
    versions: int
    size_bytes: int
    of_view: int
    """What its series' fingerprint changes by (`views.fingerprint`)."""
    entries: int
    of_summary: int
    """What the fingerprint of its study's summary changes by."""
    new_class: str | None
    """The SOP class that it shows, if it did not show that before."""
    has_lost_class: bool
    """Whether it does not show any more what it showed."""
    is_hidden_now: bool
    """Whether it was in answers, and is not: what stands for its series may not be one of its versions."""
    is_corrected: bool
    """Whether another correction holds of it, which may be a series, a study or a patient."""
    ranked: tuple[Ranked, ...]
    """The versions that may stand for what they did not stand for."""

    @property
    def series(self) -> tuple[str, str]:
        """The UIDs of its study and its series."""
        return self.instance.study_instance_uid, self.instance.series_instance_uid


def difference(before: Known, after: Known) -> Difference:
    """Return what is another, from what was known of an instance to what is known now."""
    new = [held for digest, held in after.versions.items() if digest not in before.versions]
    shown_class, former_class = after.shown_class, before.shown_class
    return Difference(
        instance=after.instance,
        shown=after.is_shown - before.is_shown,
        versions=len(new),
        size_bytes=sum(held.row.version.size_bytes for held in new),
        of_view=before.of_view ^ after.of_view,
        entries=len(new) + len(after.facts) - len(before.facts),
        of_summary=before.of_summary ^ after.of_summary,
        new_class=None if shown_class == former_class else shown_class,
        has_lost_class=former_class not in (None, shown_class),
        is_hidden_now=bool(before.versions) and after.hidden and not before.hidden,
        is_corrected=corrections.holding(before.facts) != corrections.holding(after.facts),
        ranked=tuple(
            Ranked(after.rank_of(row), row.version.digest, row.header) for row in after.changed_since(before)
        ),
    )


@dataclass(frozen=True, slots=True)
class First:
    """What becomes of a row where nothing was known of its instance: the same at every site, as a rule."""

    met: Met
    columns: tuple[object, ...]
    """Of its row in `versions`, but the last: when its copy was verified, and that it is not hidden."""
    difference: Difference

    @property
    def rank(self) -> str:
        """By what it may stand for its series and study."""
        (ranked,) = self.difference.ranked
        return ranked.rank


@lru_cache(maxsize=256)
def first(row: Row) -> First:
    """Return what becomes of a row where nothing is known. The catalogues of a process share it."""
    after = Known(row.version.instance)
    met = after.add(row, "")
    (held,) = after.versions.values()
    columns = version_row(held.row, "", is_current=True, is_hidden=False)
    return First(met, columns[:-2], difference(Known(after.instance), after))
