"""A way to one etcd member on which requests or answers can be held up."""

from __future__ import annotations

import asyncio

from cluster.coordination.registry import Address

_HEAD_START_S = 0.3


class Relay:
    """Passes bytes on, both ways, as long as the events are set."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self.requests_pass = asyncio.Event()
        self.answers_pass = asyncio.Event()
        self.requests_pass.set()
        self.answers_pass.set()
        self.hold_after: bytes | None = None
        """Once an answer has these bytes in it, no request passes."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._target.host, self._target.port)
        for way in (
            self._pass_requests(reader, there_writer),
            self._pass_answers(there_reader, writer),
        ):
            self._tasks.add(asyncio.create_task(way))

    async def _pass_requests(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                held = not self.requests_pass.is_set()
                await self.requests_pass.wait()
                sink.write(data)
                await sink.drain()
                if held:  # a member that wakes must not see at once that the request was given up meanwhile
                    await asyncio.sleep(_HEAD_START_S)
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def _pass_answers(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self.answers_pass.wait()
                if self.hold_after is not None and self.hold_after in data:
                    self.requests_pass.clear()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
