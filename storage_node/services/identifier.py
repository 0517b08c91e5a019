"""The Identifier of a query or retrieval: read, parsed, and turned into what the grid is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from cluster.dicom import uids
from cluster.dicom.extended import Extension, has
from cluster.dicom.header import HeaderError, HeaderReader
from storage_node.catalogue.matching import Agreed, BadIdentifier, Model, parse_find, parse_retrieval
from storage_node.grid.find import NoCatalogue
from storage_node.grid.listing_find import NotListed, TooMany
from storage_node.services.status import Refusal, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.dicom.association import Message
    from cluster.dicom.elements import Elements
    from cluster.nouns import Instance, Version
    from cluster.settings import Limits
    from storage_node.catalogue.corrections import Details
    from storage_node.catalogue.matching import Query, Request
    from storage_node.grid.grid import Grid

_PATIENT_ROOT: Final = frozenset({uids.PATIENT_ROOT_FIND, uids.PATIENT_ROOT_MOVE, uids.PATIENT_ROOT_GET})

MAY_BE_INCOMPLETE: Final = "too few sites answer: the latest may be missing"
"""Error Comment of an answer that fewer catalogues gave than any acknowledged instance is sure to be in."""
FROM_OBJECTS: Final = "no catalogue answers: found by the objects alone"
FROM_TOO_FEW_OBJECTS: Final = "no catalogue answers, too few sites: the latest may be missing"
"""Error Comments of a retrieval that no catalogue answered."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Selection:
    """What a retrieval asks for, in the order of the UIDs."""

    versions: tuple[Version, ...]
    comment: str | None
    """What the requestor should know of it."""
    corrected: Mapping[Instance, Details]
    """What was corrected of the instances of which something was (`Match.corrected`)."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a C-FIND asks."""

    request: Request
    identifier: Elements
    """As it came."""


async def read_find(message: Message, limits: Limits, *, lenient_levels: bool = False) -> Question:
    """Read the Identifier of a C-FIND.

    Parameters
    ----------
    message : Message
        The presentation context says what was agreed on beyond the baseline.
    limits : Limits
    lenient_levels : bool
        Whether the unique keys of upper levels may be left out, though that was not agreed on.

    Raises
    ------
    Refusal
        It is missing, too large, cannot be parsed, or does not fit the information model.
    AssociationEnded
    """
    elements = await _read(message, limits)
    try:
        request = parse_find(_model(message), elements, _agreed(message, lenient_levels=lenient_levels))
    except BadIdentifier as error:
        raise Refusal(Status.DATA_SET_DOES_NOT_MATCH, str(error)) from error
    return Question(request, elements)


async def select(
    grid: Grid,
    message: Message,
    limits: Limits,
    *,
    lenient_levels: bool = False,
    show_rejected: bool = False,
) -> Selection:
    """Read the Identifier of a C-MOVE or C-GET, and find the current version of each instance it names.

    Parameters
    ----------
    grid : Grid
    message : Message
    limits : Limits
    lenient_levels : bool
        As `read_find` takes it.
    show_rejected : bool
        Whether what was rejected for quality reasons is meant, too.

    Raises
    ------
    Refusal
        As `read_find`; or neither catalogues nor objects answer, or there are more instances than the limit.
    AssociationEnded
    """
    elements = await _read(message, limits)
    try:
        query = parse_retrieval(_model(message), elements, _agreed(message, lenient_levels=lenient_levels))
    except BadIdentifier as error:
        raise Refusal(Status.DATA_SET_DOES_NOT_MATCH, str(error)) from error
    finding = grid.find(query, limits.find_matches + 1, rejected=show_rejected)
    versions: list[Version] = []
    corrected: dict[Instance, Details] = {}
    alike: dict[Details, Details] = {}
    try:
        async for match in finding:
            versions.append(match.version)
            if match.corrected:
                corrected[match.version.instance] = alike.setdefault(match.corrected, match.corrected)
    except NoCatalogue as error:
        log.warning("retrieval.no_catalogue", reason=str(error))
        return await _select_in_objects(grid, query, limits)
    if len(versions) > limits.find_matches:
        raise _too_many(limits)
    return Selection(tuple(versions), None if finding.complete else MAY_BE_INCOMPLETE, corrected)


async def _select_in_objects(grid: Grid, query: Query, limits: Limits) -> Selection:
    """Find what a retrieval asks for where no catalogue answers, if it names the study.

    Raises
    ------
    Refusal
    """
    try:
        listed = await grid.find_in_objects(
            query, limits.find_matches, header_limit_bytes=limits.header_limit_bytes
        )
    except NotListed as error:
        raise Refusal(Status.UNABLE_TO_COUNT_MATCHES, "no catalogue answers: try again later") from error
    except TooMany as error:
        raise _too_many(limits) from error
    return Selection(listed.versions, FROM_OBJECTS if listed.complete else FROM_TOO_FEW_OBJECTS, {})


def _too_many(limits: Limits) -> Refusal:
    return Refusal(Status.UNABLE_TO_COUNT_MATCHES, f"more than {limits.find_matches} instances: ask for less")


async def _read(message: Message, limits: Limits) -> Elements:
    data_set = message.data_set
    if data_set is None:
        raise Refusal(Status.CANNOT_UNDERSTAND, "the request has no Identifier")
    parts = await data_set.read(limits.identifier_limit_bytes)
    if not data_set.at_end:
        await data_set.discard()
        raise Refusal(
            Status.OUT_OF_RESOURCES, f"Identifier of more than {limits.identifier_limit_bytes} bytes"
        )
    reader = HeaderReader(
        message.context.transfer_syntax,
        value_limit_bytes=limits.identifier_limit_bytes,
        limit_bytes=2 * limits.identifier_limit_bytes,
    )
    try:
        for part in parts:
            reader.feed(part)
        reader.close()
    except HeaderError as error:
        raise Refusal(Status.CANNOT_UNDERSTAND, f"Identifier: {error}") from error
    return reader.elements


def _model(message: Message) -> Model:
    return Model.PATIENT if message.context.abstract_syntax in _PATIENT_ROOT else Model.STUDY


def _agreed(message: Message, *, lenient_levels: bool) -> Agreed:
    """Return what was agreed on for the SOP class of a request (PS3.4 C.5), and what the settings add."""
    extended = message.context.extended
    return Agreed(
        relational_queries=has(extended, Extension.RELATIONAL),
        combined_date_time=has(extended, Extension.COMBINED_DATE_TIME),
        fuzzy_names=has(extended, Extension.FUZZY_NAMES),
        empty_values=has(extended, Extension.EMPTY_VALUES),
        multiple_values=has(extended, Extension.MULTIPLE_VALUES),
        lenient_levels=lenient_levels,
    )
