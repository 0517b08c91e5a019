"""`cluster.json`, the cluster's record: which sites there are, of which identity, and which has no vote.

It is what tells a site that is there from one that lost its state. So it is written before a site is made,
and a site that is recorded as made is never made again: should it not be there, it is down, whatever lies in
its place.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cluster.durable import replace_durably
from cluster.nouns import Membership, SiteIdentity
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cluster.settings import Settings

RECORD: Final = "cluster.json"


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """What the cluster knows of one of its sites."""

    identity: SiteIdentity
    made: bool
    """Whether both halves of this generation were made to the end: from then on they are not made again."""
    filling: bool = False
    """Whether it lost its state, and has not got all of it back yet."""
    rebuilding: bool = False
    """Whether its objects are sound, and its catalogue is first to be made from them."""

    @property
    def membership(self) -> Membership:
        """The same in the words of the grid."""
        return Membership(self.identity, filling=self.filling, rebuilding=self.rebuilding)


Records: TypeAlias = "Mapping[str, SiteRecord]"
"""By the sites' names."""


def file_of(settings: Settings) -> Path:
    """Return where the record is."""
    return settings.data_folder / RECORD


def read(settings: Settings) -> Records | None:
    """Return the records of the cluster's sites, in the order of the settings; None without a cluster.

    Raises
    ------
    UserError
        The record cannot be read, is damaged, or is of other sites than the settings name.
    """
    file = file_of(settings)
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    try:
        records = {entry["name"]: _record(entry) for entry in json.loads(text)["sites"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}): put a good copy back") from error
    named = [site.name for site in settings.sites]
    if set(named) != set(records):
        raise UserError(
            f"the cluster in {settings.data_folder} has the sites {', '.join(sorted(records))}, the settings"
            f" name {', '.join(sorted(named))}: sites cannot be added or removed yet"
        )
    return {name: records[name] for name in named}


def change(settings: Settings, how: Callable[[Records | None], Records]) -> Records:
    """Replace the record by what `how` makes of it, durably. One process changes it at a time.

    Raises
    ------
    UserError
        As `read` does.
    OSError
        It cannot be written.
    """
    with _alone(settings.data_folder):
        before = read(settings)
        after = how(before)
        if after != before:
            entries = [
                {
                    **asdict(record.identity),
                    "made": record.made,
                    "filling": record.filling,
                    "rebuilding": record.rebuilding,
                }
                for record in after.values()
            ]
            replace_durably(file_of(settings), json.dumps({"sites": entries}, indent=2) + "\n")
        return after


def known(settings: Settings) -> Records:
    """Return the records of a cluster, even if not all of its sites were made yet.

    Raises
    ------
    UserError
        There is no cluster in the data folder.
    """
    records = read(settings)
    if records is None:
        how = (
            "make its sites with `atria site init`" if _has_buckets(settings) else "start one with `atria up`"
        )
        raise UserError(f"there is no cluster in {settings.data_folder}: {how}")
    return records


def of_sites(settings: Settings) -> Records:
    """Return the records of a cluster whose sites were all made.

    Raises
    ------
    UserError
        There is no such cluster in the data folder.
    """
    records = known(settings)
    if missing := unmade(records):
        raise UserError(
            f"there is no cluster in {settings.data_folder} yet: site {', '.join(missing)} was not made to"
            " the end: do so with `atria site init`"
        )
    return records


def is_whole(settings: Settings) -> bool:
    """Whether there is a cluster whose sites were all made.

    Raises
    ------
    UserError
        As `read` does.
    """
    records = read(settings)
    return records is not None and not unmade(records)


def unmade(records: Records) -> list[str]:
    """Return the names of the sites that were never made to the end."""
    # One that is being replaced may be there half: it is down until the replacement goes on.
    return [name for name, record in records.items() if not (record.made or record.filling)]


def _has_buckets(settings: Settings) -> bool:
    return any(site.is_s3 for site in settings.sites)


def _record(entry: Mapping[str, object]) -> SiteRecord:
    name, site_id, generation, made = (entry[key] for key in ("name", "site_id", "generation", "made"))
    filling, rebuilding = entry.get("filling", False), entry.get("rebuilding", False)
    if not (isinstance(name, str) and isinstance(site_id, str) and isinstance(generation, int)):
        raise TypeError(f"no site: {entry}")
    if not (isinstance(made, bool) and isinstance(filling, bool) and isinstance(rebuilding, bool)):
        raise TypeError(f"no state of a site: {entry}")
    return SiteRecord(SiteIdentity(name, site_id, generation), made, filling, rebuilding)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the record for a change. The file itself is replaced, so another one beside it is locked."""
    handle = os.open(folder / f".{RECORD}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
