"""Certificates of the cluster's own: a CA for etcd and one for the balancers, and what they sign.

A CA is made once and never replaced: what it has signed would be worth nothing. What it signs is made anew
when its names are others, or a third of its time is left.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv6Address
    from pathlib import Path

AUTHORITY_TIME: Final = timedelta(days=20 * 365)
CERTIFICATE_TIME: Final = timedelta(days=3 * 365)
_CLOCKS_APART: Final = timedelta(hours=1)
"""How far a host's clock may be behind ours, and a new certificate be good there."""


@dataclass(frozen=True, slots=True)
class Names:
    """Whom a certificate names."""

    common: str
    dns: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()

    @property
    def alternatives(self) -> x509.SubjectAlternativeName:
        """The same as the certificate says it (RFC 5280 4.2.1.6)."""
        return x509.SubjectAlternativeName(
            [*map(x509.DNSName, self.dns), *map(x509.IPAddress, self.addresses)]
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as their files have them (PEM)."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Pair(…)"


class Authority:
    """One CA.

    Parameters
    ----------
    certificate : x509.Certificate
    key : ec.EllipticCurvePrivateKey
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def kept(cls, folder: Path, name: str, now: datetime) -> Self:
        """Return the CA that a folder keeps; made, with a key for its owner alone, if it is not there.

        Raises
        ------
        UserError
            Its certificate or key is not there, or is something else.
        OSError
            They can be neither read nor written.
        """
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        if not certificate.exists() and not key.exists():
            _make(name, now, certificate, key)
        try:
            loaded = serialization.load_pem_private_key(key.read_bytes(), password=None)
            signer = x509.load_pem_x509_certificate(certificate.read_bytes())
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise UserError(
                f"{certificate} and {key.name} are not a CA's certificate and key ({error}): put good copies"
                " back, as another CA would be trusted by nobody"
            ) from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or signer.public_key() != loaded.public_key():
            raise UserError(f"{key} is not the key of {certificate.name}: put a good copy back")
        return cls(signer, loaded)

    @property
    def pem(self) -> str:
        """Its certificate, which others are to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def issue(self, names: Names, now: datetime) -> Pair:
        """Make a key and a certificate, by which its holder is known as server and as client."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(names.common, key, now, CERTIFICATE_TIME, self._certificate.subject)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(names.alternatives, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        return _pair(certificate, key)

    def fits(self, pair: Pair, names: Names, now: datetime) -> bool:
        """Whether a pair is what this CA would issue, and good for a while."""
        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
            key = serialization.load_pem_private_key(pair.key.encode(), password=None)
            certificate.verify_directly_issued_by(self._certificate)
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        left = certificate.not_valid_after_utc - now
        return (
            certificate.public_key() == key.public_key()
            and found == names.alternatives
            and certificate.subject == _name(names.common)
            and left > CERTIFICATE_TIME / 3
        )


def _make(name: str, now: datetime, certificate_file: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(f"Atria CA ({name})")
    usage = x509.KeyUsage(
        **dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True, "digital_signature": True}
    )
    certificate = (
        _builder(f"Atria CA ({name})", key, now, AUTHORITY_TIME, subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    pair = _pair(certificate, key)
    certificate_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, text, mode in ((key_file, pair.key, 0o600), (certificate_file, pair.certificate, 0o644)):
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(text)


_USAGES: Final[Sequence[str]] = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _builder(
    common: str, key: ec.EllipticCurvePrivateKey, now: datetime, time: timedelta, issuer: x509.Name
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + time)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
    )


def utc_now() -> datetime:
    """Return the time, aware, in whole seconds as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)
