from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest

from cluster.certificates import CertificatesUnusable
from cluster.settings import Tls, TlsMode
from cluster.tls import LOOK_INTERVAL_S, ServerTls, server_context
from tests.certificates import Authority, Pair


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(pair: Pair, client_ca: Path | None = None) -> Tls:
    return Tls(
        mode=TlsMode.ENDED,
        certificate_file=pair.certificate_file,
        key_file=pair.key_file,
        client_ca_file=client_ca,
    )


def shown(server: ssl.SSLContext, authority: Authority) -> str:
    """Return the name of the certificate that a caller of this context is shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority.client_context().wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    served = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, served, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = client.getpeercert()
    assert certificate is not None
    return str(certificate["subject"][0][0][1])


def put(source: Pair, target: Pair) -> None:
    for name in ("certificate_file", "key_file"):
        shutil.copy(getattr(source, name), getattr(target, name))


def test_only_tls_1_2_and_later_with_forward_secrecy_and_authenticated_encryption(
    authority: Authority,
) -> None:
    context = server_context(settings(authority.pair("a")))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    suites = [str(cipher["name"]) for cipher in context.get_ciphers()]
    assert {"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"} <= set(suites)
    assert all(name.startswith(("TLS_", "ECDHE-")) and ("GCM" in name or "CHACHA" in name) for name in suites)


def test_callers_need_a_certificate_only_where_their_signers_are_named(authority: Authority) -> None:
    pair = authority.pair("a")
    assert server_context(settings(pair)).verify_mode is ssl.CERT_NONE
    assert server_context(settings(pair, authority.file)).verify_mode is ssl.CERT_REQUIRED


def test_a_certificate_that_was_replaced_is_shown_from_then_on(authority: Authority) -> None:
    clock = Clock()
    pair, other = authority.pair("before"), authority.pair("after")
    tls = ServerTls(settings(pair), clock)
    assert shown(tls.context(), authority) == "before"
    put(other, pair)
    clock.now += LOOK_INTERVAL_S / 2
    assert shown(tls.context(), authority) == "before"
    clock.now += LOOK_INTERVAL_S
    assert shown(tls.context(), authority) == "after"


def test_a_new_pair_that_does_not_fit_leaves_the_old_one_until_it_does(authority: Authority) -> None:
    clock = Clock()
    pair, other = authority.pair("before"), authority.pair("after")
    tls = ServerTls(settings(pair), clock)
    shutil.copy(other.certificate_file, pair.certificate_file)
    clock.now += LOOK_INTERVAL_S
    assert shown(tls.context(), authority) == "before"
    pair.key_file.unlink()
    clock.now += LOOK_INTERVAL_S
    assert shown(tls.context(), authority) == "before"
    shutil.copy(other.key_file, pair.key_file)
    clock.now += LOOK_INTERVAL_S
    assert shown(tls.context(), authority) == "after"


def test_files_that_stay_are_not_read_again(authority: Authority) -> None:
    clock = Clock()
    tls = ServerTls(settings(authority.pair("a")), clock)
    before = tls.context()
    clock.now += 10 * LOOK_INTERVAL_S
    assert tls.context() is before


def test_what_cannot_be_used_is_told_by_file(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.pair("one"), authority.pair("other")
    with pytest.raises(CertificatesUnusable, match=r"one\.key does not fit .*other\.pem"):
        server_context(settings(Pair(other.certificate_file, one.key_file)))
    with pytest.raises(CertificatesUnusable, match=r"none\.pem cannot be read: No such file"):
        server_context(settings(Pair(tmp_path / "none.pem", one.key_file)))
    with pytest.raises(CertificatesUnusable, match=r"expected a certificate and its key"):
        server_context(settings(Pair(one.key_file, one.key_file)))
    with pytest.raises(CertificatesUnusable, match=r"client_ca_file .*one\.key: no certificate"):
        server_context(settings(one, one.key_file))


def test_a_key_with_a_password_is_an_error_and_no_question(authority: Authority) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pair = authority.pair("a")
    key = load_pem_private_key(pair.key_file.read_bytes(), None)
    pair.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(CertificatesUnusable, match="without a password"):
        server_context(settings(pair))
