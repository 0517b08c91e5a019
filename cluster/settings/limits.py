"""Limits, and how fast what runs in the background runs."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import Field

from cluster.settings.values import MIB, Bytes, Seconds, Table


class UpperLayer(Table):
    """Limits of one association (PS3.8)."""

    max_pdu_length_bytes: Annotated[int, Field(ge=4096, le=64 * MIB)] = MIB
    """Largest P-DATA-TF variable field we receive, and the largest we send (PS3.8 D.1.1)."""
    artim_timeout_s: Seconds = 30.0
    """ARTIM: how long a connection may stay without its A-ASSOCIATE-RQ, or without its end (PS3.8 9.1.5)."""
    idle_timeout_s: Seconds = 600.0
    """How long an association may stay silent between two messages."""
    message_timeout_s: Seconds = 60.0
    """How long a peer may be silent in the middle of a message or before an answer is taken."""
    connect_timeout_s: Seconds = 5.0
    associate_rq_limit_bytes: Bytes = MIB
    """Largest A-ASSOCIATE PDU that is read."""


class Limits(Table):
    """What one process takes upon itself at most: a worker, where no other is named.

    A change holds from the next association or request on, where nothing else is said.
    """

    associations: Annotated[int, Field(gt=0)] = 200
    """Associations at once; the next one is rejected: 2/3/2 (PS3.8 9.3.4)."""
    balancer_associations: Annotated[int, Field(gt=0)] = 1000
    """Associations that the balancer relays at once; the next one is rejected: 2/3/2."""
    calling_ae_associations: Annotated[int, Field(gt=0)] | None = None
    """Associations at once of one calling AE title, at all balancers; the next one is rejected: 2/3/2."""
    source_associations: Annotated[int, Field(gt=0)] | None = None
    """The same of one address."""
    queued_associations: Annotated[int, Field(ge=0)] = 64
    """Associations that wait at the balancer for a worker with room; the next one is rejected: 2/3/1."""
    queue_timeout_s: Seconds = 2.0
    """How long they wait before they are rejected: 2/3/1."""
    memory_limit_bytes: Annotated[int, Field(ge=MIB)] = 16 * MIB
    """Largest instance that is held in memory; a larger one is streamed to the sites as it arrives."""
    held_bytes: Bytes = 512 * MIB
    """Memory for instances of more than 1 MiB that arrive at once; who finds none left is made to wait. A
    change holds for processes that start after it."""
    command_set_limit_bytes: Bytes = 64 * 1024
    identifier_limit_bytes: Bytes = MIB
    """Largest Identifier of a query."""
    header_limit_bytes: Bytes = 64 * 1024
    """Raw elements of a header that a catalogue keeps; the object has the rest."""
    find_matches: Annotated[int, Field(gt=0)] = 100_000
    """Answers to one C-FIND; past it the query fails with 0xA700."""
    rejected_instances: Annotated[int, Field(gt=0)] = 10_000
    """Instances that one rejection note may name; one that names more is refused: 0xA700."""
    rejection_note_limit_bytes: Bytes = 16 * MIB
    """Largest Key Object Selection Document that is read; a larger one is refused: 0xA700."""
    compared_limit_bytes: Bytes = 4096 * MIB
    """Largest version whose pixels are compared with those of another that an instance has already; where
    that is not done the first stays the current one, until a person chooses."""
    decoded_limit_bytes: Bytes = 64 * MIB
    """Largest version that is held in memory for that: of a larger one pixels are compared as encoded."""


class Writing(Table):
    """How many copies an acknowledgement needs, and how long is waited for the others."""

    copies_before_success: Annotated[int, Field(ge=1)] = 2
    """W: sites that hold a copy before success is answered."""
    straggler_grace_s: Seconds = 0.5
    """How long the slower sites are waited for before they are owed the copy."""
    site_timeout_s: Seconds = 10.0
    """How long one step at one site may take."""
    probe_interval_s: Seconds = 1.0
    """How often each site is asked whether it is well."""
    probe_timeout_s: Seconds = 1.0
    """How long that may take; a site that takes longer is down, and nobody waits for it any more."""
    hedge_after_s: Seconds = 0.25
    """How long a read waits for one site at most before it asks another, too: less where reads are quick."""
    find_patience_s: Seconds = 1.0
    """How long a find waits for a catalogue when others have answered and there is one to ask instead."""
    site_requests: Annotated[int, Field(gt=0)] = 64
    """Requests of one process that are under way at one site; the next one waits."""
    site_held_bytes: Bytes = 256 * MIB
    """Bytes of objects that one process is writing to one site; past it the site is passed over, and owed."""
    free_space_low_bytes: Bytes = 2048 * MIB
    """A site with less room than this is full: it is not written to until it has half as much again."""


class Upkeep(Table):
    """What runs in the background, and how fast."""

    repair_interval_s: Seconds = 1.0
    repair_at_once: Annotated[int, Field(gt=0, le=64)] = 8
    """Debts that are paid at the same time."""
    repair_rate_bytes_per_s: Bytes | None = None
    """How fast sites that are owed copies are filled; as fast as it goes when it is not set."""
    anti_entropy_interval_s: Seconds = 3600.0
    """How often the catalogues are compared."""
    scrub_period_days: Annotated[float, Field(gt=0)] = 30.0
    """Within so many days each copy is read and its digest checked."""
    collection_interval_s: Seconds = 3600.0
    """How often objects that have no row are looked for."""
    orphan_grace_h: Annotated[float, Field(ge=1)] = 24.0
    """Age at which an object without a row, or an upload that was not finished, is no live writer's."""


class Changes(Table):
    """How a site's change feed is followed."""

    poll_interval_s: Seconds = 1.0
    """How often it is looked whether something came."""
    study_complete_after_s: Seconds = 60.0
    """A study of which nothing new came for so long is complete."""


class Resend(enum.StrEnum):
    """What becomes of an instance that was deleted, when it is sent again."""

    REVIVES = "revives"
    """It is in answers again."""
    STAYS_DELETED = "stays_deleted"
    """It is kept like what was deleted: in no answer, until somebody takes the deletion back."""


class Deletion(Table):
    """What becomes of what is deleted."""

    trash_days: Annotated[float, Field(ge=0)] = 30.0
    """How long a deletion can be taken back; then the bytes go."""
    resend: Resend = Resend.REVIVES
