"""How commands read and change the settings that all hosts of a cluster share."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import typer

from deploy.command.cluster import must_be_there
from deploy.command.console import console
from deploy.command.run import run
from deploy.command.who import account
from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cluster.settings import Route, Settings, SharedSettings
    from cluster.settings_store.protocol import Change, SettingsRevision, SettingsStore
    from deploy.overrides import Overrides

    T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Holding:
    """What holds when a command looks."""

    settings: Settings
    """Of this host, with those that all share."""
    revision: SettingsRevision | None
    """Of those; None where only the settings file says them."""


def holding(overrides: Overrides) -> Holding:
    """Return what holds now.

    Raises
    ------
    UserError
        It cannot be read.
    """
    from cluster.settings import SettingsError, shared

    settings = overrides.settings()

    async def read(store: SettingsStore) -> SettingsRevision | None:
        return await store.current()

    revision = _ask(overrides, settings, read)
    if revision is None:
        return Holding(settings, None)
    try:
        return Holding(shared.apply(settings, shared.parse(revision.document)), revision)
    except SettingsError as error:
        raise UserError(f"settings: {error}") from error


def history(overrides: Overrides) -> list[SettingsRevision]:
    """Return the revisions that are kept, the newest first.

    Raises
    ------
    UserError
        They cannot be read.
    """

    async def read(store: SettingsStore) -> list[SettingsRevision]:
        return await store.history()

    return _ask(overrides, overrides.settings(), read)


def change(overrides: Overrides, how: Change, what: str, *, as_json: bool) -> None:
    """Change the settings, and print the revision that then holds; warn of routes that are never taken then.

    Raises
    ------
    UserError
        It is refused, or the settings cannot be reached.
    """
    from cluster.settings.shared import differences, document

    changed: list[str] = []
    unused: list[str] = []

    def noted(now: SharedSettings) -> SharedSettings:
        after = how(now)
        changed[:] = differences(document(now), document(after))
        unused[:] = never_taken(after.routes) if "routes" in changed else ()
        return after

    async def do(store: SettingsStore) -> SettingsRevision:
        return await store.change(noted, by=account(), what=what)

    revision = _ask(overrides, overrides.settings(), do)
    if as_json:
        print(json.dumps({"revision": revision.number, "changed": changed}))
    elif changed:
        console().print(f"Revision {revision.number}: {what}.", markup=False, highlight=False)
    else:
        console().print("Nothing was changed: it is so already.")
    for said in unused:
        typer.echo(f"atria: {said}: put it before (`--before`), or remove it", err=True)


def never_taken(routes: Sequence[Route]) -> list[str]:
    """Say of each route that no association takes which others do, in a line each."""
    from balancer.shadowing import shadowed

    return [
        f"route {index + 1} is never taken: what it is for goes by route"
        f" {' and '.join(str(taker + 1) for taker in takers)}"
        for index, takers in shadowed(routes).items()
    ]


def _ask(overrides: Overrides, settings: Settings, question: Callable[[SettingsStore], Awaitable[T]]) -> T:
    from cluster.settings import SettingsError
    from cluster.settings_store.protocol import SettingsUnavailable

    async def ask() -> T:
        async with _opened(settings, overrides) as store:
            return await question(store)

    try:
        return run(ask())
    except (SettingsError, SettingsUnavailable) as error:
        raise UserError(f"settings: {error}") from error


@asynccontextmanager
async def _opened(settings: Settings, overrides: Overrides) -> AsyncIterator[SettingsStore]:
    from deploy import compose
    from deploy.settings_file import file_used

    if overrides.config is None or overrides.data is not None:
        must_be_there(settings)
    used = file_used(settings.data_folder)
    if overrides.config is None and used is not None and not settings.etcd.endpoints:
        raise UserError(
            f"the cluster in {settings.data_folder} goes by {used}:"
            " name that file (--config, or ATRIA_CONFIG)"
        )
    coordination = compose.coordination(settings)
    try:
        yield compose.settings_store(settings, overrides.file, coordination)
    finally:
        if coordination is not None:
            await coordination.close()
