"""An S3 service is trusted by its certificate, or not at all."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from storage_node.site.protocol import SiteUnavailable
from tests.unit.site.fake_service import IDENTITY, answer, fake_service


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for 127.0.0.1 that is its own authority, with its key in the same file."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    made = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made += ["-days", "2", "-subj", "/CN=service", "-addext", "subjectAltName=IP:127.0.0.1"]
    made += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(made, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "cert.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return both


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_service_whose_authority_is_trusted_is_asked(certificate: Path, tls: ssl.SSLContext) -> None:
    whole = answer("200 OK", b"x" * 9, ETag="e")
    async with fake_service(lambda _: whole, tls=tls, ca_file=certificate) as (site, _):
        assert await site.identity() == IDENTITY
        assert await site.get("s/x") == b"x" * 9
        await site.put("s/y", [bytes(3_000_000)], digest="0" * 64, metadata={})


async def test_another_is_not_asked_and_the_setting_is_named(tls: ssl.SSLContext) -> None:
    async with fake_service(lambda _: answer("200 OK"), tls=tls) as (site, asked):
        with pytest.raises(SiteUnavailable, match="not trusted: see ca_file"):
            await site.identity()
    assert asked == []


async def test_certificates_that_cannot_be_read_are_told(tls: ssl.SSLContext, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    for file in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        async with fake_service(lambda _: answer("200 OK"), tls=tls, ca_file=file) as (site, _):
            with pytest.raises(SiteUnavailable, match=f"ca_file: {file}"):
                await site.identity()
