"""The `atria` command: one file for each sub-command, and those that other packages bring.

Starting it must be quick, so nothing heavy is imported before a sub-command needs it.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import entry_points
from typing import Final

import typer

from deploy.command import (
    accept,
    ae,
    balancer,
    catalogue,
    changes,
    conflicts,
    correct,
    delete,
    deploy,
    find,
    get,
    history,
    merge,
    rejections,
    repair,
    retain,
    route,
    scrub,
    send,
    settings,
    site,
    status,
    trash,
    undelete,
    up,
    upkeep,
    verify,
    where,
    worker,
)
from deploy.errors import UserError

_OF_THE_HOST: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
)
"""What the host lacks, where no file is named with it."""
_USERS = "Commands"
_PROCESSES = "Single processes (`atria up` starts them for you)"


def build() -> typer.Typer:
    """Return the command: its own sub-commands, and those of the entry point group `atria.commands`."""
    app = typer.Typer(
        name="atria",
        help="A fault-tolerant PACS: every image at three sites, readable from any one of them.\n\n"
        "Start a cluster on this host with [bold]atria up[/], send it something with [bold]atria send[/].",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for panel, modules in (
        (_USERS, (up, send, find, get, delete, undelete, trash, retain)),
        (_USERS, (correct, merge, history, rejections, accept)),
        (_USERS, (status, where, verify, repair, scrub, changes)),
        (_PROCESSES, (upkeep,)),
    ):
        for module in modules:
            app.command(module.__name__.rpartition(".")[2], rich_help_panel=panel)(module.command)
    app.add_typer(balancer.app, name="balancer", rich_help_panel=_PROCESSES)
    app.add_typer(conflicts.app, name="conflicts", rich_help_panel=_USERS)
    app.add_typer(ae.app, name="ae", rich_help_panel=_USERS)
    app.add_typer(route.app, name="route", rich_help_panel=_USERS)
    app.add_typer(settings.app, name="settings", rich_help_panel=_USERS)
    app.add_typer(site.app, name="site", rich_help_panel=_USERS)
    app.add_typer(catalogue.app, name="catalogue", rich_help_panel=_USERS)
    app.add_typer(deploy.app, name="deploy", rich_help_panel=_USERS)
    app.add_typer(worker.app, name="worker", rich_help_panel=_PROCESSES)
    for found in entry_points(group="atria.commands"):
        app.command(name=found.name, rich_help_panel=_USERS)(found.load())
    return app


def main() -> None:
    """Run the command; what a user can mend is said in one line on standard error, with exit code 2.

    The exit code is 1 where it is asked whether to go on, and nobody says yes.
    """
    try:
        code = _run()
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has seen enough, as `head` does
        _drop_output()
        code = 1
    except OSError as error:
        if error.filename is None and error.errno not in _OF_THE_HOST:
            raise
        _drop_output()
        code = _said(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    sys.exit(code)


def _run() -> int:
    """Run the command, and return its exit code."""
    try:
        return build()(prog_name="atria", standalone_mode=False) or 0
    except UserError as error:
        return _said(str(error))
    except typer.TyperException as error:
        return _said(_misused(error))
    except typer.Abort:
        print(file=sys.stderr)  # the cursor stands behind the question
        return _said("nothing was done, as nobody said yes (--yes does not ask)", code=1)


def _misused(error: typer.TyperException) -> str:
    """Say what is wrong with a command line; nothing where there is none, and the help was shown instead."""
    said = error.format_message().rstrip(".")
    if not said:
        return ""
    context: typer.Context | None = getattr(error, "ctx", None)
    path = "atria" if context is None else context.command_path
    return f"{said[0].lower()}{said[1:]}: `{path} --help` tells how it is called"


def _said(what: str, code: int = 2) -> int:
    if what:
        print(f"atria: {' '.join(what.splitlines())}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Have nothing written at the end of the process that could not be written now."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
