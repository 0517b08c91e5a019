"""`atria deploy`: what hosts are installed with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated

import typer

from deploy.command import options
from deploy.errors import UserError

app = typer.Typer(
    help="Render what each host of a cluster is installed with.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

File = Annotated[Path, typer.Argument(metavar="CLUSTER.toml", help="Names the hosts and the sites.")]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Gets a folder for each host.")]
Check = Annotated[
    bool, typer.Option("--check", help="Write nothing: say what differs, and exit with 1 if anything does.")
]


@app.callback()
def deploy() -> None:
    """Render what each host of a cluster is installed with."""


@app.command("render")
def render(file: File, out: Out, check: Check = False, as_json: options.Json = False) -> None:
    """Render settings, systemd units and certificates of all hosts from one file.

    What is made once is kept: the CAs (`DIR/ca`) and the passwords of the sites' servers (`DIR/secrets`).
    Keep DIR where only those get at it who may administer the cluster. What DIR/HOST holds belongs into
    the host's `/etc/atria`, and what is in its `systemd` into `/etc/systemd/system`.

    --json prints `files`, how many there are, `written`, which of them had to be, and `left_over`, what is
    not rendered any more; with --check, `differences`.

    [bold]Examples[/]

      atria deploy render cluster.toml --out rendered

      atria deploy render cluster.toml --out rendered --check
    """
    from deploy.render import cluster_file, tree
    from deploy.render.certificates import utc_now

    cluster = cluster_file.load(file)
    try:
        if check:
            differences = tree.check(cluster, out, utc_now())
            if as_json:
                print(json.dumps({"differences": differences}))
            else:
                print("\n".join(differences) or "Nothing differs.")
            raise typer.Exit(1 if differences else 0)
        planned = tree.plan(cluster, out, utc_now())
        written = tree.write(out, planned)
        left_over = tree.left_over(cluster, out, planned)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or out}: {error.strerror}") from error
    if as_json:
        _print_json(len(planned), written, left_over)
    else:
        print(f"{len(written)} of {len(planned)} files were written below {out}.")
    for name in left_over:
        said = f"{out / name} is not rendered any more: stop it on its host, and remove it in both places"
        typer.echo(f"atria: {said}", err=True)


def _print_json(files: int, written: Sequence[PurePath], left_over: Sequence[PurePath]) -> None:
    values = {"files": files, "written": list(map(str, written)), "left_over": list(map(str, left_over))}
    print(json.dumps(values))
