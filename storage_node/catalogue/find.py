"""A query as a database of SQL answers it: one page at a time, in the order of what identifies the entities.

SQL narrows, the reference matcher decides: what may hold several values passes conditions there, and is then
compared value by value; what is in no column is read from the header of what SQL lets pass.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.nouns import Fact, Instance, Level
from storage_node.catalogue import corrections, views
from storage_node.catalogue.attributes import MODALITIES_IN_STUDY, values_of
from storage_node.catalogue.columns import fact_of, row_of
from storage_node.catalogue.headers import are_met
from storage_node.catalogue.keys import Key, attributes_of, matches
from storage_node.catalogue.matching import Query
from storage_node.catalogue.protocol import Match, Row
from storage_node.catalogue.statements import IN_STUDY, UIDS, WIDTHS
from storage_node.catalogue.views import fingerprint, is_hidden, precedence


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the answers to a query."""

    matches: tuple[Match, ...]
    after: tuple[str, ...] | None
    """Where the next page begins; None when this was the last."""


@dataclass(slots=True)
class _Below:
    """What there is below an entity, of what is not hidden."""

    studies: set[str] = field(default_factory=set)
    series: int = 0
    instances: int = 0
    modalities: set[str] = field(default_factory=set)
    sop_classes: set[str] = field(default_factory=set)
    fingerprint: int = 0

    def count(
        self, study: str, instances: int, of_instances: int, modality: str | None, sop_classes: str
    ) -> None:
        self.fingerprint ^= of_instances
        if not instances:
            return
        self.studies.add(study)
        self.series += 1
        self.instances += instances
        self.modalities.update(values_of("CS", modality or ""))
        self.sop_classes.update(sop_classes.split("\\"))


class Answers:
    """What a query makes of the rows that its statements read (`statements.page_of`, `statements.apart`)."""

    def __init__(self, query: Query) -> None:
        self._level = query.level
        self._width = UIDS[query.level]
        self._keys = tuple(key for key in query.keys if key.attribute.tag not in IN_STUDY)
        self._keys_in_study = tuple(key for key in query.keys if key.attribute.tag in IN_STUDY)
        self._residual = query.residual
        self.compared = tuple(dict.fromkeys(a for key in self._keys for a in attributes_of(key)))
        """Attributes that are to be read with the rows, behind all else."""

    def after(self, uid: tuple[str, ...] | None) -> dict[str, str]:
        """Return the parameters that say where a page begins; None is the first."""
        return {f"after_{at}": value for at, value in enumerate(uid or ("",) * self._width)}

    def page(self, rows: Sequence[Any], apart: Iterable[Any], size: int) -> Page:
        """Return the matches among the entities of a page.

        Parameters
        ----------
        rows : sequence of rows
            The page.
        apart : iterable of rows
            What was read of its entities by a statement of its own (`statements.apart`).
        size : int
            How many rows were asked for: with fewer it is the last page.
        """
        below: dict[str, _Below] = defaultdict(_Below)
        rulings: dict[Instance, list[Fact]] = defaultdict(list)
        for entity, *fields in apart:
            if self._level is Level.IMAGE:
                instance = Instance(entity, *fields[:2])
                rulings[instance].append(fact_of(instance, *fields[2:]))
            else:
                below[entity].count(*fields)
        after = tuple(rows[-1][: self._width]) if len(rows) == size else None
        return Page(tuple(self._matches(rows, below, rulings)), after)

    def _matches(
        self, rows: Iterable[Any], belows: Mapping[str, _Below], rulings: Mapping[Instance, Iterable[Fact]]
    ) -> Iterator[Match]:
        splits = itertools.accumulate((self._width, *WIDTHS))
        cuts = list(itertools.pairwise((0, *splits, None)))
        for row in rows:
            uid, uids, fields, summary, corrected, compared = (row[slice(*cut)] for cut in cuts)
            stored = dict(zip(self.compared, compared, strict=True))
            if not all(matches(key, *map(stored.get, attributes_of(key))) for key in self._keys):
                continue
            stands = row_of(Instance(*uids), *fields)
            details = _corrected(*corrected)
            if not are_met(self._residual, stands.header, details):
                continue
            facts = views.rulings(rulings.get(stands.version.instance, ()))
            match self._level:
                case Level.IMAGE:
                    below = _instance(stands, *summary[2:], hidden=is_hidden(facts))
                case Level.SERIES:
                    below = _Below()
                    below.count(uids[0], *summary)
                case _:
                    below = belows[uid[0]]
            if not all(matches(key, _in_study(key, below)) for key in self._keys_in_study):
                continue
            yield Match(
                uid=tuple(uid),
                header=stands.header,
                version=stands.version,
                instances=below.instances,
                series=below.series,
                studies=len(below.studies),
                modalities=tuple(sorted(below.modalities)),
                sop_classes=tuple(sorted(below.sop_classes)),
                order=stands.order,
                precedence=precedence(stands.provenance, stands.version.digest),
                fingerprint=below.fingerprint,
                rulings=facts,
                corrected=details,
            )


def _instance(row: Row, modality: str | None, sop_class: str, *, hidden: bool) -> _Below:
    """Return what there is of one instance: its modality and class are known when it is hidden, too."""
    study = row.version.instance.study_instance_uid
    below = _Below()
    below.count(study, 1, fingerprint(row.version.instance, hidden=hidden), modality, sop_class)
    if hidden:
        below.studies, below.series, below.instances = set(), 0, 0
    return below


def _corrected(of_study: str, of_series: str | None) -> corrections.Details:
    return tuple(sorted((*corrections.from_text(of_study), *corrections.from_text(of_series or ""))))


def _in_study(key: Key, below: _Below) -> str | None:
    held = below.modalities if key.attribute.tag == MODALITIES_IN_STUDY else below.sop_classes
    return "\\".join(held) or None
