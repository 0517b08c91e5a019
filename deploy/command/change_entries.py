"""An event of a change feed, as an object for JSON and as a line to read."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster.nouns import Fact, Instance, Level
from storage_node.upkeep.changes import StudyComplete

if TYPE_CHECKING:
    from storage_node.catalogue.feed import Added
    from storage_node.upkeep.changes import Told


def entry(told: Told) -> dict[str, Any]:
    """Return an event as an object for JSON: `kind` is `version`, `fact` or `study_complete`."""
    what = told.what
    if isinstance(what, StudyComplete):
        return {
            "cursor": told.cursor,
            "kind": "study_complete",
            **_subject(Instance(what.study_instance_uid, "", "")),
            "instances": what.instances,
            "last_received_at": what.last_received_at.isoformat(),
        }
    more = _decided(what.what) if isinstance(what.what, Fact) else _added(what.what)
    return {"cursor": told.cursor, **more, **_subject(what.instance), "digest": what.digest}


def line(told: Told) -> str:
    """Return an event as one line: when, what, of what, and more about it."""
    what = told.what
    if isinstance(what, StudyComplete):
        when, kind, more = what.last_received_at, "complete", f"{what.instances} instances"
    elif isinstance(what.what, Fact):
        fact = what.what
        when, kind, more = fact.decided_at, fact.kind.value, f"by {fact.decided_by}: {fact.reason}"
    else:
        added = what.what
        when, kind = added.provenance.received_at, "version"
        more = (
            f"{added.size_bytes} bytes from {added.provenance.calling_ae},"
            f" study {added.instance.study_instance_uid}"
        )
    level, uid = _named(told)
    text = f"{when:%Y-%m-%d %H:%M:%S}  {kind:<9}  {level.lower():<7}  {uid}  {more}"
    # What others wrote must not reach the terminal as commands, nor make two lines of one.
    return "".join(character if character.isprintable() else " " for character in text)


def _added(added: Added) -> dict[str, Any]:
    provenance = asdict(added.provenance)
    return {
        "kind": "version",
        "sop_class_uid": added.sop_class_uid,
        "transfer_syntax_uid": added.transfer_syntax_uid,
        "size_bytes": added.size_bytes,
        "order": added.order,
        **provenance,
        "received_at": added.provenance.received_at.isoformat(),
    }


def _decided(fact: Fact) -> dict[str, Any]:
    return {
        "kind": "fact",
        "fact": fact.kind.value,
        "epoch": fact.epoch,
        "decided_at": fact.decided_at.isoformat(),
        "decided_by": fact.decided_by,
        "reason": fact.reason,
        "details": dict(fact.details),
    }


def _subject(instance: Instance) -> dict[str, str]:
    if instance.level is Level.PATIENT:
        patient_id, _, rest = instance.study_instance_uid.partition("\n")
        if not patient_id:  # he has none, and is told apart by his only study (`views.patient_key`)
            return {"level": instance.level, "study_instance_uid": rest}
        return {"level": instance.level, "patient_id": patient_id, "issuer_of_patient_id": rest}
    return {"level": instance.level, **{name: uid for name, uid in asdict(instance).items() if uid}}


def _named(told: Told) -> tuple[Level, str]:
    """Return what an event is about in the fewest words: its level, and its own UID."""
    if isinstance(told.what, StudyComplete):
        return Level.STUDY, told.what.study_instance_uid
    instance = told.what.instance
    uid = instance.sop_instance_uid or instance.series_instance_uid or instance.study_instance_uid
    return instance.level, uid.strip()
