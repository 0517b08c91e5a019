"""A process that has imported what `atria` needs, and forks for each command that it is asked to run.

A command spends most of its time on imports: 0.7 s of a core, of which 0.1 s are left where it is forked
when these are done. In all else it is a process of its own: its arguments, environment, folder and streams.

As a program it serves: `… ADDRESS`, until its standard input ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import pkgutil
import runpy
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from typing import IO, Final

_MODULE: Final = "deploy.command.main"
_PACKAGES: Final = ("cluster", "storage_node", "deploy", "chaos")
_NOT_IMPORTED: Final = ("etcd", "migrations", "__main__", _MODULE)
"""gRPC does not outlive a fork, a migration runs when it is imported, and the command itself is run anew."""


def run(
    arguments: list[str], environment: dict[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises
    ------
    subprocess.TimeoutExpired
        It was killed.
    """
    request = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
    with contextlib.ExitStack() as stack:
        asked, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        asked.write(json.dumps(request).encode())
        asked.flush()
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(_serving())
        socket.send_fds(connection, [b"?"], [asked.fileno(), out.fileno(), err.fileno()])
        answers = stack.enter_context(connection.makefile("r"))
        pid = int(answers.readline())
        connection.settimeout(timeout_s)
        try:
            code = int(answers.readline())
        except BaseException as error:
            os.kill(pid, signal.SIGKILL)
            if isinstance(error, TimeoutError):
                raise subprocess.TimeoutExpired(arguments, timeout_s, _text(out), _text(err)) from error
            raise
        return subprocess.CompletedProcess(arguments, code, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@functools.cache
def _serving() -> str:
    """Start the process, once, and return where it listens."""
    address = f"\0atria-{secrets.token_hex(8)}"
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, address[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()

    atexit.register(end)
    return address


def _import_all() -> None:
    for name in _PACKAGES:
        package = import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not any(part in found.name for part in _NOT_IMPORTED):
                import_module(found.name)


def _asked(listener: socket.socket) -> None:
    """Fork for each who connects; return in the process that is to run the command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        listener.close()
        _, (asked, out, err), _, _ = socket.recv_fds(connection, 1, 3)
        if pid := os.fork():
            connection.sendall(b"%d\n" % pid)
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):  # who asked waits no more
                connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        connection.close()
        _become(asked, out, err)
        return


def _become(asked: int, out: int, err: int) -> None:
    """Take on what the process is to be like."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(out, 1)
    os.dup2(err, 2)
    with open(asked, "rb") as file:
        file.seek(0)
        request = json.load(file)
    os.close(out)
    os.close(err)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv[1:] = request["arguments"]


def _serve(address: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{address}")
        listener.listen()
        _import_all()
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread does not outlive a fork"
        # What is collected is written to, and then no longer shared with those that are forked.
        gc.collect()
        gc.freeze()
        os.write(1, b"ready\n")
        _asked(listener)
    os._exit(_exit_code())


def _exit_code() -> int:
    """Run the command; the process is then to end without taking down what it shares."""
    try:
        runpy.run_module(_MODULE, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
