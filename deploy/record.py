"""`cluster.json`, the cluster's record: which sites there are, of which identity, and which has no vote.

It is what tells a site that is there from one that lost its state. So it is written before a site is made,
and a site that is recorded as made is never made again: should it not be there, it is down, whatever lies in
its place.

A cluster of one host has it in its data folder alone. Several hosts share it (`deploy.shared_record`), and
each has the last edition that it saw in its data folder, by which it goes.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cluster.durable import replace_durably
from cluster.nouns import Membership, SiteIdentity
from deploy.errors import UserError
from deploy.lock import held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
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


@dataclass(frozen=True, slots=True)
class Edition:
    """The whole record, as one of its changes left it."""

    number: int
    """One more with each change."""
    cluster: str | None
    """The same in all editions of a cluster; None in those of before there was such a thing."""
    records: Records

    def is_of(self, other: Edition) -> bool:
        """Whether both are of one cluster."""
        return self.cluster == other.cluster or (
            None in (self.cluster, other.cluster) and self.records == other.records
        )


class OtherSites(UserError):
    """The record is not of the sites that the settings name."""


def file_of(settings: Settings) -> Path:
    """Return where the record is."""
    return settings.data_folder / RECORD


def changed(before: Edition | None, how: Callable[[Records | None], Records]) -> Edition:
    """Return the edition that a change makes: the same one where it changes nothing."""
    if before is None:
        return Edition(1, str(uuid.uuid4()), how(None))
    after = how(before.records)
    if after == before.records:
        return before
    return Edition(before.number + 1, before.cluster or str(uuid.uuid4()), after)


def encode(edition: Edition) -> str:
    """Return an edition as it is written."""
    entries = [
        {
            **asdict(one.identity),
            "made": one.made,
            "filling": one.filling,
            "rebuilding": one.rebuilding,
        }
        for one in edition.records.values()
    ]
    values = {"cluster": edition.cluster, "edition": edition.number, "sites": entries}
    return json.dumps(values, indent=2) + "\n"


def decode(text: str | bytes, settings: Settings, where: str) -> Edition:
    """Return what was written, its sites in the order of the settings.

    Parameters
    ----------
    text : str or bytes
    settings : Settings
    where : str
        What it was read from, for messages.

    Raises
    ------
    OtherSites
    UserError
        It is damaged.
    """
    try:
        values = json.loads(text)
        records = {entry["name"]: _record(entry) for entry in values["sites"]}
        number, cluster = values.get("edition", 0), values.get("cluster")
        if not (isinstance(number, int) and isinstance(cluster, str | None)):
            raise TypeError(f"no edition: {number!r} of {cluster!r}")  # noqa: TRY301  told like other damage
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is damaged ({error!r}): put a good copy back") from error
    named = [site.name for site in settings.sites]
    if set(named) != set(records):
        raise OtherSites(
            f"the cluster in {where} has the sites {', '.join(sorted(records))}, the settings"
            f" name {', '.join(sorted(named))}: sites cannot be added or removed yet"
        )
    return Edition(number, cluster, {name: records[name] for name in named})


def edition(settings: Settings) -> Edition | None:
    """Return the record as this host has it; None without a cluster.

    Raises
    ------
    OtherSites
    UserError
        It cannot be read, or is damaged.
    """
    file = file_of(settings)
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    return decode(text, settings, str(file))


def read(settings: Settings) -> Records | None:
    """Return the records of the cluster's sites, in the order of the settings; None without a cluster.

    Raises
    ------
    OtherSites
    UserError
        The record cannot be read, or is damaged.
    """
    found = edition(settings)
    return None if found is None else found.records


def change(settings: Settings, how: Callable[[Records | None], Records]) -> Records:
    """Replace the record by what `how` makes of it, durably. One process changes it at a time. Blocks.

    `how` may be called more than once, when somebody else changes the record meanwhile.

    Raises
    ------
    UserError
        As `read` does; or several hosts share the record, and etcd does not answer.
    OSError
        It cannot be written.
    """
    if settings.etcd.endpoints:
        from deploy import shared_record

        return asyncio.run(shared_record.change(settings, how))
    with _alone(settings.data_folder):
        before = edition(settings)
        after = changed(before, how)
        if after != before:
            replace_durably(file_of(settings), encode(after))
        return after.records


def keep(settings: Settings, new: Edition) -> None:
    """Have this host go by an edition that is shared, unless it has that or a later one.

    Raises
    ------
    OSError
        It cannot be written.
    """
    settings.data_folder.mkdir(parents=True, exist_ok=True)
    with _alone(settings.data_folder):
        try:
            own = edition(settings)
        except UserError:  # damaged: it is put back by this
            own = None
        if own is None or (own.number <= new.number and own != new):
            replace_durably(file_of(settings), encode(new))


def known(settings: Settings) -> Records:
    """Return the records of a cluster, even if not all of its sites were made yet.

    Raises
    ------
    UserError
        There is no cluster in the data folder.
    """
    records = read(settings)
    if records is None:
        raise UserError(f"there is no cluster in {settings.data_folder}: {_remedy(settings)}")
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


def _remedy(settings: Settings) -> str:
    """Say how a cluster comes to be where there is none."""
    if settings.etcd.endpoints:
        where = ", ".join(settings.etcd.endpoints)
        return f"see that etcd answers ({where}), and make the sites with `atria site init` if nobody has yet"
    if any(site.is_s3 for site in settings.sites):
        return "make its sites with `atria site init`"
    return "start one with `atria up`"


def _record(entry: Mapping[str, object]) -> SiteRecord:
    name, site_id, generation, made = (entry[key] for key in ("name", "site_id", "generation", "made"))
    filling, rebuilding = entry.get("filling", False), entry.get("rebuilding", False)
    if not (isinstance(name, str) and isinstance(site_id, str) and isinstance(generation, int)):
        raise TypeError(f"no site: {entry}")
    if not (isinstance(made, bool) and isinstance(filling, bool) and isinstance(rebuilding, bool)):
        raise TypeError(f"no state of a site: {entry}")
    return SiteRecord(SiteIdentity(name, site_id, generation), made, filling, rebuilding)


def _alone(folder: Path) -> AbstractContextManager[None]:
    """Hold the record for a change. The file itself is replaced, so another one beside it is locked."""
    return held(folder / f".{RECORD}.lock")
