"""Relaying bytes, beside HAProxy: how fast, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests import tools
from tests.bench import peers
from tests.bench.figures import Bar, Figure, interleaved, ratio
from tests.bench.peers import Measured
from tests.bench.plan import Bench
from tests.bench.processes import Broken, cpu_seconds, free_port
from tests.bench.relay_worker import SINK, SOURCE
from tests.certificates import Authority

PART: Final = "balancer-relay"
_ATRIA: Final = "Atria"
_ATRIA_TLS: Final = "Atria, TLS ended"
_HAPROXY: Final = "HAProxy"
_HAPROXY_SPLICING: Final = "HAProxy, made to splice"
_TOWARDS: Final = {SINK: "to workers", SOURCE: "to clients"}
_MOST_OF_ITS_TIME: Final = 0.6
"""CPU seconds per GB, beside HAProxy's."""
_GIGABYTE: Final = 1e9
_MEGABYTE: Final = 1e6
_TIMEOUT_S: Final = 60.0


@dataclass
class _Contender:
    """A relay, and what it has spent in each turn."""

    process: Measured
    trusted: Path | None = None
    port: int = 0
    costs: list[float] = field(default_factory=list)

    def turn(self, called: str, streams: int, seconds: float) -> Callable[[], float]:
        """Return what measures one turn: MB/s; what it cost, in s/GB, is noted."""

        def run() -> float:
            before = cpu_seconds(self.process.pid)
            count, took = _call(self.port or self.process.port, called, streams, seconds, self.trusted)
            if not count:
                raise Broken(f"relaying: not a byte came {_TOWARDS[called]} within {seconds:g} s")
            self.costs.append((cpu_seconds(self.process.pid) - before) / count * _GIGABYTE)
            return count / took / _MEGABYTE

        return run


def run(bench: Bench) -> list[Figure]:
    """Compare the relays in each direction, at each number of streams.

    Raises
    ------
    Broken
        One of them did not work.
    """
    with ExitStack() as stack:
        worker = stack.enter_context(peers.module("relay_worker", bench.folder))
        authority = Authority(bench.folder)
        pair, tls_port = authority.pair("balancer"), free_port()
        arguments = [worker, tls_port, pair.certificate_file, pair.key_file]
        atria = stack.enter_context(peers.measured("balancer_alone", bench.folder, *map(str, arguments)))
        contenders = {
            _ATRIA: _Contender(atria),
            _ATRIA_TLS: _Contender(atria, authority.file, tls_port),
        }
        if program := tools.haproxy():
            for name in (_HAPROXY, _HAPROXY_SPLICING):
                always = name == _HAPROXY_SPLICING
                found = peers.haproxy(program, bench.folder, worker, always_splices=always)
                contenders[name] = _Contender(stack.enter_context(found))
        return [
            figure
            for called in _TOWARDS
            for streams in bench.plan.streams
            for figure in _compare(bench, contenders, called, streams)
        ]


def _compare(bench: Bench, contenders: dict[str, _Contender], called: str, streams: int) -> list[Figure]:
    for contender in contenders.values():
        contender.costs.clear()
    legs = {
        name: contender.turn(called, streams, bench.plan.relay_seconds)
        for name, contender in contenders.items()
    }
    rates = interleaved(legs, bench.plan.relay_rounds, bench.note)
    costs = {name: tuple(contenders[name].costs[1:]) for name in contenders}
    suffix = f", {_TOWARDS[called]}, {streams} stream{'' if streams == 1 else 's'}"
    return [
        *(Figure(PART, name + suffix, "MB/s", values) for name, values in rates.items()),
        *(Figure(PART, f"{name}, CPU{suffix}", "s/GB", values) for name, values in costs.items()),
        ratio(PART, rates, _ATRIA, _HAPROXY, suffix=suffix, at_least=1.0),
        _cost(costs, suffix),
        ratio(PART, rates, _ATRIA, _HAPROXY_SPLICING, suffix=suffix),
        ratio(PART, costs, _ATRIA, _HAPROXY_SPLICING, suffix=f", CPU{suffix}"),
    ]


def _cost(costs: dict[str, tuple[float, ...]], suffix: str) -> Figure:
    compared = ratio(PART, costs, _ATRIA, _HAPROXY, suffix=f", CPU{suffix}")
    bar = Bar(_MOST_OF_ITS_TIME, at_least=False)
    return Figure(PART, compared.name, compared.unit, compared.values, bar, compared.note)


def _call(port: int, called: str, streams: int, seconds: float, trusted: Path | None) -> tuple[int, float]:
    arguments = [port, called, streams, seconds, *([trusted] if trusted else [])]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.relay_client", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S + seconds,
    )
    if done.returncode != 0:
        raise Broken(f"relaying: {done.stderr.strip()[-2000:]}")
    found = json.loads(done.stdout)
    return int(found["bytes"]), float(found["seconds"])
