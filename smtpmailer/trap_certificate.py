# SPDX-License-Identifier: MIT
"""The mail trap's self-made certificate: an authority for one certificate, its key thrown away."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CertificateFiles", "self_made_certificate"]

_VALID: Final = timedelta(days=365)
_RENEW_BEFORE: Final = timedelta(days=7)
_NAMES: Final = ("localhost", "127.0.0.1", "::1")


@attrs.frozen(kw_only=True)
class CertificateFiles:
    """PEM files: ``ca`` is what a client trusts (``SMTP_CA_FILE``), the others are the server's."""

    ca: Path
    certificate: Path
    key: Path


def self_made_certificate(directory: Path, now: float, host: str = "127.0.0.1") -> CertificateFiles:
    """Give a certificate for localhost, 127.0.0.1, ::1 and ``host``, made when there is none.

    An earlier one in the directory is used again while it names ``host`` and is valid for another
    week, so that clients' trust outlives restarts. ``now`` is in Unix seconds. Raises OSError when
    the directory can't be written.
    """
    files = CertificateFiles(
        ca=directory / "trap-ca.pem",
        certificate=directory / "trap-cert.pem",
        key=directory / "trap-key.pem",
    )
    moment = datetime.fromtimestamp(now, UTC)
    if not _usable(files, moment, host):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(files, moment, host)
    return files


def _usable(files: CertificateFiles, moment: datetime, host: str) -> bool:
    try:
        authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        key.public_key() == certificate.public_key()
        and certificate.not_valid_before_utc <= moment
        and moment + _RENEW_BEFORE < certificate.not_valid_after_utc
        and _general_name(host) in names
    )


def _make(files: CertificateFiles, moment: datetime, host: str) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    authority_name = _name("smtpmailer trap, for development only")
    authority = (
        _builder(authority_name, authority_name, authority_key, moment)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = [_general_name(name) for name in dict.fromkeys((*_NAMES, host))]
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(_name("localhost"), authority_name, key, moment)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _replace(files.key, secret, 0o600)
    _replace(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _replace(files.ca, authority.public_bytes(serialization.Encoding.PEM), 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, moment: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(days=1))  # clocks of clients may be behind
        .not_valid_after(moment + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _replace(path: Path, content: bytes, mode: int) -> None:
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    unfinished.rename(path)
