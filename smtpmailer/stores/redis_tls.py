# SPDX-License-Identifier: MIT
"""TLS for connections to Redis: always verified, certificate chain and host name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

from smtpmailer.errors import TlsConfigError

__all__ = ["RedisTls", "describe_tls"]


class RedisTls:
    """Makes TLS options (1.2 or newer) for hosts.

    With ``ca_file`` (PEM) only the authorities in it are trusted, as it is when a connection
    begins; without one those of the system.
    """

    def __init__(self, ca_file: str = "") -> None:
        """Read the file; raises TlsConfigError."""
        self._ca_file = ca_file
        self._known: dict[str, IOpenSSLClientConnectionCreator] = {}
        if ca_file:
            self._trust()

    def options(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Give the options for a host name or IP address; raises TlsConfigError."""
        if self._ca_file:
            return self._make(host)
        if host not in self._known:
            # Loading the system's certificates takes milliseconds.
            self._known[host] = self._make(host)
        return self._known[host]

    def _make(self, host: str) -> IOpenSSLClientConnectionCreator:
        return optionsForClientTLS(
            host,
            trustRoot=self._trust(),
            extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
        )

    def _trust(self) -> Any:
        if not self._ca_file:
            return platformTrust()
        try:
            found = x509.load_pem_x509_certificates(Path(self._ca_file).read_bytes())
        except OSError as error:
            text = f"REDIS_CA_FILE: cannot read {self._ca_file}: {error.strerror}"
            raise TlsConfigError(text) from error
        except ValueError as error:
            text = f"REDIS_CA_FILE: {self._ca_file} holds no PEM certificate"
            raise TlsConfigError(text) from error
        return trustRootFromCertificates(
            [Certificate(crypto.X509.from_cryptography(each)) for each in found]
        )


def describe_tls(error: BaseException | None) -> str:
    """Say why a TLS session did not come about; empty when that was not the reason."""
    if isinstance(error, VerificationError | CertificateError):
        return "TLS: the certificate is for another host"
    if not isinstance(error, SSL.Error):
        return ""
    faults = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = ", ".join(str(fault[-1]) for fault in faults if fault) or "the handshake failed"
    if "certificate verify failed" in reasons:
        return "TLS: the certificate is not of a trusted authority, or not valid (REDIS_CA_FILE)"
    return f"TLS: {reasons} (REDIS_PROTO, REDIS_PORT)"
