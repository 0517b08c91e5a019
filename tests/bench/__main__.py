"""`python -m tests.bench`: measure, and print a table of what was measured and what was asked for."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.bench import (
    balancer_associations,
    balancer_idle,
    balancer_relay,
    catalogue_million,
    catalogue_rebuild,
    catalogue_rows,
    failover,
    figures,
    find_rate,
    header_work,
    memory,
    minio_get,
    minio_hung,
    minio_ingest,
    minio_large,
    minio_refill,
    postgresql_ingest,
    receive,
    start,
    store,
)
from tests.bench.figures import Figure
from tests.bench.plan import QUICK, Bench, Plan
from tests.bench.processes import Broken

PARTS: Final[dict[str, Callable[[Bench], list[Figure]]]] = {
    part.PART: part.run
    for part in (
        *(receive, store, header_work, memory, start),
        *(minio_ingest, minio_get, minio_hung, minio_large, minio_refill),
        *(balancer_relay, balancer_associations, balancer_idle),
        *(postgresql_ingest, catalogue_rows, catalogue_million, catalogue_rebuild, find_rate),
        failover,
    )
}
_LOG_TAIL_LINES: Final = 15
_WIDTH_OF_A_LOG: Final = 150
# A temporary folder may well be in memory, where writing costs nothing; by the FHS this one is not.
_FOLDER: Final = Path("/var/tmp")


def main() -> int:
    """Run the parts that were asked for; a figure that falls short is shown, and is no error."""
    arguments = _arguments()
    # Asked to end, it ends what it started: as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    terminal = Console(stderr=True)
    folder = Path(tempfile.mkdtemp(prefix="atria-bench-", dir=arguments.folder))
    folder.chmod(0o755)  # a PostgreSQL server that root starts runs as another user, and must get into it
    try:
        with terminal.status("starting") as status:
            plan = QUICK if arguments.quick else Plan()
            measured: list[Figure] = []
            for part in _chosen(arguments.parts):
                own = folder / part
                own.mkdir()
                measured += PARTS[part](Bench(plan, own, status.update))
                shutil.rmtree(own)
    except Broken as broken:
        terminal.print(f"bench: {broken}", style="red", markup=False)
        _show_logs(terminal, folder)
        return 1
    except KeyboardInterrupt:
        terminal.print("bench: ended before its time")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        print(json.dumps([figure.as_json() for figure in measured], indent=2))
    else:
        width = None if sys.stdout.isatty() else _WIDTH_OF_A_LOG
        Console(width=width).print(figures.table(measured))
    return 0


def _chosen(names: list[str]) -> list[str]:
    """Return the parts with these names, or that begin with one and a hyphen: `minio` is several."""
    if not names:
        return list(PARTS)
    return [part for part in PARTS if any(part == name or part.startswith(f"{name}-") for name in names)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a look whether it works: no figure to rely on")
    known = f"{', '.join(PARTS)}; minio is all of its"
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"what to measure (default: all): {known}")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument(
        "--folder",
        type=Path,
        default=_FOLDER,
        help="where on disk to store (default: %(default)s): 30 GB at most",
    )
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.parts if not _chosen([name])]:
        parser.error(f"{', '.join(unknown)}: expected some of {known}")
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder}: there is no such folder")
    return arguments


def _show_logs(terminal: Console, folder: Path) -> None:
    for log in sorted(folder.rglob("*.log")):
        lines = log.read_text("utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        terminal.out(f"--- {log.relative_to(folder)}", *lines, sep="\n", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
