from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest

from cluster.settings import Tls, TlsMode
from cluster.tls import server_context
from cluster.tls_session import TlsSession
from tests.certificates import Authority


class Peer:
    """A caller and the session that answers it, with nothing between them."""

    def __init__(self, authority: Authority) -> None:
        pair = authority.pair("pacs")
        settings = Tls(mode=TlsMode.ENDED, certificate_file=pair.certificate_file, key_file=pair.key_file)
        self.session = TlsSession(server_context(settings))
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = authority.client_context()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        while not self._shake_hands():
            self.send()
            self.session.shake_hands()
            self.receive()
        self.send()
        assert self.session.shake_hands()
        self.receive()

    def send(self) -> None:
        self.session.feed(self._outgoing.read())

    def receive(self) -> None:
        self._incoming.write(self.session.to_send())

    def end(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.send()

    def _shake_hands(self) -> bool:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            return True
        return False


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    return Peer(Authority(tmp_path))


@pytest.mark.parametrize("we_end_first", [False, True])
def test_a_peer_that_ends_is_seen_to_whoever_ends_first(peer: Peer, we_end_first: bool) -> None:
    if we_end_first:
        peer.session.end()
    peer.tls.write(b"last words")
    peer.end()
    room = memoryview(bytearray(100))
    count = peer.session.read_into(room)
    assert (bytes(room[:count]), peer.session.peer_ended) == (b"last words", True)
