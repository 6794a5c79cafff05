# SPDX-License-Identifier: MIT
"""Certificates made on the spot: right, expired, self-signed, for another host."""

from __future__ import annotations

import datetime as dt
import functools
import ipaddress
from pathlib import Path
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions

__all__ = ["Identity", "authority", "issue"]

_NOW = dt.datetime.now(dt.UTC)
_DAY = dt.timedelta(days=1)


@attrs.frozen(kw_only=True)
class Identity:
    """A certificate with its key and, behind it, the certificates up to the root."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def cert_pem(self) -> bytes:
        """The certificate and its chain."""
        certs = (self.cert, *self.chain)
        return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certs)

    def key_pem(self, pass_phrase: bytes = b"") -> bytes:
        """Give the private key, encrypted when there is a pass phrase."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if pass_phrase:
            protection = serialization.BestAvailableEncryption(pass_phrase)
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )

    def options(self, **extra: Any) -> CertificateOptions:
        """Give options for a server with this identity; ``extra`` goes to CertificateOptions."""
        return CertificateOptions(
            privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, self.key_pem()),
            certificate=crypto.X509.from_cryptography(self.cert),
            extraCertChain=[crypto.X509.from_cryptography(cert) for cert in self.chain],
            **extra,
        )

    def write(self, folder: str) -> tuple[str, str]:
        """Write certificate and key into a folder; give both paths."""
        cert, key = Path(folder, "cert.pem"), Path(folder, "key.pem")
        cert.write_bytes(self.cert_pem)
        key.write_bytes(self.key_pem())
        return str(cert), str(key)


def issue(
    *names: str,
    issuer: Identity | None = None,
    is_ca: bool = False,
    days: tuple[int, int] = (-1, 30),
) -> Identity:
    """Make an identity for DNS names or IP addresses; self-signed without ``issuer``.

    ``days`` is when it begins and ends to be valid, from now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else "none")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW + days[0] * _DAY)
        .not_valid_after(_NOW + days[1] * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if names and not is_ca:
        holds = x509.SubjectAlternativeName([_general_name(name) for name in names])
        builder = builder.add_extension(holds, critical=False)
    cert = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    chain = (issuer.cert, *issuer.chain) if issuer else ()
    return Identity(cert=cert, key=key, chain=chain)


@functools.cache
def authority() -> Identity:
    """Give the test run's certificate authority."""
    return issue("Test CA", is_ca=True)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
