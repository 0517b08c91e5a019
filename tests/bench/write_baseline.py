"""The least that storing three copies can cost: three new files per instance, each written and fsynced.

Per association one thread, and in it everything one after the other: open (`O_CREAT | O_EXCL`), one write of
a whole CT image, fsync, close; then the next copy, in the next of three folders. No folder is fsynced,
nothing is renamed, hashed, parsed or received. `python -m tests.bench.write_baseline FOLDER THREADS COUNT
SECONDS` prints one line of JSON; the folders stay, for the caller to remove.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.bench import instances
from tests.bench.sender import Result

COPIES: Final = 3


class _Writer:
    def __init__(self, folders: list[Path], number: int, content: bytes) -> None:
        self._folders = folders
        self._number = number
        self._content = content
        self.written = 0
        self.ended_at = 0.0

    def run(self, start: threading.Barrier, count: int, seconds: float) -> None:
        start.wait()
        deadline = time.perf_counter() + seconds
        while self.written < count and time.perf_counter() < deadline:
            for folder in self._folders:
                self._write(folder / f"{self._number}-{self.written}.dcm")
            self.written += 1
        self.ended_at = time.perf_counter()

    def _write(self, path: Path) -> None:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            if os.write(file, self._content) != len(self._content):
                raise OSError(f"{path}: not written in one piece")
            os.fsync(file)
        finally:
            os.close(file)


def write(folder: Path, threads: int, count: int, seconds: float) -> Result:
    """Write `count` instances in each thread, or as many as fit into `seconds`."""
    folders = [folder / name for name in ("a", "b", "c")[:COPIES]]
    for one in folders:
        one.mkdir(parents=True)
    data_set = instances.ct_image(instances.uids(0, 0, 0))
    content = data_set.header + instances.pixels(data_set.pixel_bytes)
    writers = [_Writer(folders, number, content) for number in range(threads)]
    started_at: list[float] = []
    start = threading.Barrier(threads, action=lambda: started_at.append(time.perf_counter()))
    running = [threading.Thread(target=writer.run, args=(start, count, seconds)) for writer in writers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return Result(
        instances=sum(writer.written for writer in writers),
        seconds=max(writer.ended_at for writer in writers) - started_at[0],
        fault=None if all(writer.ended_at for writer in writers) else "a file could not be written",
    )


def main() -> None:
    """Write what the command line says; print the result."""
    folder, threads, count, seconds = sys.argv[1:]
    print(json.dumps(asdict(write(Path(folder), int(threads), int(count), float(seconds)))))


if __name__ == "__main__":
    main()
