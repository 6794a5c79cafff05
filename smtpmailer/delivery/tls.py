# SPDX-License-Identifier: MIT
"""TLS contexts: for sessions with SMTP servers, and for listening.

Sessions verify with their own callback instead of ``optionsForClientTLS``, for two reasons: that
one does not tell which check failed, and it loads the system's certificates anew for every host
(some 15 ms each), while here all hosts share one context.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import attrs
import idna
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import (
    DNS_ID,
    DNSPattern,
    IPAddress_ID,
    IPAddressPattern,
    verify_service_identity,
)
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from smtpmailer.core.model import Route
from smtpmailer.delivery.replies import clean_text
from smtpmailer.delivery.resumption import TlsSessions
from smtpmailer.errors import RemoteError, SmtpConnectError, TlsConfigError

__all__ = [
    "ClientOptions",
    "ClientTls",
    "ServerTls",
    "client_options",
    "describe_tls_failure",
    "server_options",
]

_TRUST_SETTINGS = "SMTP_CA_FILE, SMTP_TLS_VERIFY"
_NAME_SETTINGS = "SMTP_HOST, SMTP_TLS_VERIFY"
#: How many of a certificate's names an error shows.
_NAMES_SHOWN = 5

#: X509_V_ERR_* of OpenSSL's x509_vfy.h, in words an operator can act on.
_CHAIN_FAULTS = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: "the certificate is self-signed",
    19: "the certificate's root is self-signed and not trusted (unknown CA)",
    20: "the certificate's issuer is not trusted (unknown CA)",
    21: "the certificate's issuer is not trusted (unknown CA, or a chain without intermediate)",
    23: "the certificate has been revoked",
    24: "the certificate's issuer is no CA",
    26: "the certificate is not made for servers",
    66: "the certificate's key is too weak",
    67: "a CA's key is too weak",
    68: "a CA's signature is too weak",
}

_SERVER_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_Verify = Callable[[SSL.Connection, crypto.X509, int, int, int], bool]


@implementer(IOpenSSLClientConnectionCreator)
@attrs.define(kw_only=True, eq=False)
class ClientOptions:
    """Makes the TLS connection to ``host``, its ASCII name or IP address.

    ``wanted`` is what the certificate has to hold; None trusts any certificate. ``resumed`` is a
    TLS session to go on with: OpenSSL checks nothing then, so it has to come from a connection
    that passed the same checks, at ``verified_at``.
    """

    host: str
    context: SSL.Context = attrs.field(repr=False)
    wanted: DNS_ID | IPAddress_ID | None
    resumed: SSL.Session | None = attrs.field(default=None, repr=False)
    verified_at: float = 0.0
    connection: SSL.Connection | None = attrs.field(default=None, init=False, repr=False)

    def clientConnectionForTLS(self, tls: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that sends the server name and checks the certificate."""
        connection = self.connection = SSL.Connection(self.context, None)
        if not _is_ip(self.host):
            connection.set_tlsext_host_name(self.host.encode("ascii"))
        if self.wanted is not None:
            mode = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
            connection.set_verify(mode, _checker(self.host, self.wanted, tls))
        if self.resumed is not None:
            connection.set_session(self.resumed)
        return connection


class ClientTls:
    """Client TLS options whose costly parts are kept: trusted certificates, and TLS sessions.

    A changed ``ca_file`` is noticed and loaded again.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[object, ...], SSL.Context] = {}
        self._sessions = TlsSessions()

    def client_options(self, host: str, *, verify: bool, ca_file: str) -> ClientOptions:
        """Give what ``client_options`` gives, with a context kept per trust."""
        key = (verify, ca_file, *_fingerprint(ca_file))
        if key not in self._contexts:
            context = _client_context(verify=verify, ca_file=ca_file)
            stale = [known for known in self._contexts if known[:2] == key[:2]]
            for known in stale:
                del self._contexts[known]
            self._contexts[key] = context
        return _bind(self._contexts[key], host, verify=verify)

    def options_for(self, route: Route, now: float) -> ClientOptions:
        """Give the options of one connection, which goes on with a TLS session if it can.

        ``now`` is in seconds of a clock that does not go back. Raises as ``client_options``.
        """
        options = self.client_options(route.host, verify=route.verify, ca_file=route.ca_file)
        options.verified_at = now
        with contextlib.suppress(KeyError):
            found = self._sessions.take(route, options.context, now)
            options.resumed, options.verified_at = found
        return options

    def keep(self, route: Route, options: ClientOptions) -> None:
        """Keep the TLS session of a connection that is set up, for the next one."""
        if options.connection is not None:
            since = options.verified_at
            self._sessions.keep(route, options.context, options.connection, since)


def client_options(host: str, *, verify: bool, ca_file: str) -> ClientOptions:
    """Give TLS options (1.2 or newer) for a session with ``host``: name, IDN or IP address.

    With ``verify`` the chain has to lead to the system's certificates or those in ``ca_file``
    (PEM, may be empty), and the certificate has to hold the host's name (RFC 6125, RFC 9525).
    Raises TlsConfigError for an unusable file or host name.
    """
    return _bind(_client_context(verify=verify, ca_file=ca_file), host, verify=verify)


def server_options(cert_file: str, key_file: str, client_ca_file: str = "") -> CertificateOptions:
    """Give TLS options for listening: TLS 1.2 or newer, ECDHE with AEAD ciphers, whole chain.

    ``cert_file`` holds the server's certificate and then its chain, ``key_file`` its key, both
    PEM. With ``client_ca_file`` (PEM) a client has to have a certificate of one of the authorities
    in it. Raises TlsConfigError, which names MAILER_SSL_CERT, MAILER_SSL_KEY or
    MAILER_SSL_CLIENT_CA, for a file that is missing, unreadable or no PEM, and for a key that does
    not belong to the certificate.
    """
    chain = _load_certificates("MAILER_SSL_CERT", cert_file)
    trust = None
    if client_ca_file:
        authorities = _load_certificates("MAILER_SSL_CLIENT_CA", client_ca_file)
        trust = trustRootFromCertificates([Certificate(authority) for authority in authorities])
    options = CertificateOptions(
        privateKey=_load_key(key_file),
        certificate=chain[0],
        extraCertChain=chain[1:],
        trustRoot=trust,
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(_SERVER_CIPHERS),
    )
    try:
        options.getContext()
    except SSL.Error as error:
        raise TlsConfigError(
            f"MAILER_SSL_KEY: {key_file} does not belong to the certificate in {cert_file} "
            "(MAILER_SSL_CERT)"
        ) from error
    return options


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """TLS for listening whose files can be read again; see ``server_options`` for what they hold.

    Connections keep the context with which they began.
    """

    def __init__(self, cert_file: str, key_file: str, client_ca_file: str = "") -> None:
        """Read the files; raises TlsConfigError."""
        self._files = (cert_file, key_file, client_ca_file)
        self._context = server_options(*self._files).getContext()

    def reload(self) -> None:
        """Read the files again, for new connections; raises TlsConfigError and changes nothing."""
        self.use(*self._files)

    def use(self, cert_file: str, key_file: str, client_ca_file: str = "") -> None:
        """Use these files for new connections; raises TlsConfigError and changes nothing."""
        files = (cert_file, key_file, client_ca_file)
        self._context = server_options(*files).getContext()
        self._files = files

    def serverConnectionForTLS(self, _tls: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make the server's side of a connection."""
        return SSL.Connection(self._context, None)


def describe_tls_failure(error: BaseException | None) -> str:
    """Say why a TLS handshake failed, with the settings concerned; safe to show."""
    if isinstance(error, RemoteError):
        return str(error)
    if isinstance(error, SSL.Error):
        faults = error.args[0] if error.args and isinstance(error.args[0], list) else []
        reasons = ", ".join(str(fault[-1]) for fault in faults if fault) or "no reason given"
        hint = ""
        if any(sign in reasons for sign in ("wrong version number", "packet length too long")):
            hint = "; the server does not speak TLS here (SMTP_ENCRYPTION, SMTP_PORT)"
        elif any(sign in reasons for sign in ("unsupported protocol", "protocol version")):
            hint = "; TLS 1.2 or newer is needed"
        return clean_text(f"TLS handshake failed: {reasons}{hint}")
    return "the connection ended during the TLS handshake"


def _client_context(*, verify: bool, ca_file: str) -> SSL.Context:
    trust = platformTrust() if verify else None
    options = CertificateOptions(trustRoot=trust, raiseMinimumTo=TLSVersion.TLSv1_2)
    context = options.getContext()
    if verify and ca_file:
        _read("SMTP_CA_FILE", ca_file)
        try:
            context.load_verify_locations(ca_file)
        except SSL.Error as error:
            raise TlsConfigError(
                f"SMTP_CA_FILE: {ca_file} holds no usable PEM certificates"
            ) from error
    return context


def _bind(context: SSL.Context, host: str, *, verify: bool) -> ClientOptions:
    name = _ascii(host)
    return ClientOptions(host=name, context=context, wanted=_identity(name) if verify else None)


def _checker(host: str, wanted: DNS_ID | IPAddress_ID, tls: TLSMemoryBIOProtocol) -> _Verify:
    """Make OpenSSL's verify callback: OpenSSL checks the chain, this adds the host name.

    What failed becomes the reason that the protocol's ``connectionLost`` gets.
    """
    protocol = weakref.ref(tls)  # The connection holds the callback: no cycle.

    def check(_: SSL.Connection, cert: crypto.X509, fault: int, depth: int, ok: int) -> bool:
        text = ""
        if not ok:
            why = _CHAIN_FAULTS.get(fault, f"the certificate fails OpenSSL's check {fault}")
            text = f"{why} ({_TRUST_SETTINGS})"
        elif depth == 0:
            text = _name_fault(cert, host, wanted)
        if text:
            target = protocol()
            if target is not None:
                target.failVerification(Failure(SmtpConnectError(text)))
        return not text

    return check


def _name_fault(cert: crypto.X509, host: str, wanted: DNS_ID | IPAddress_ID) -> str:
    """Check that the certificate holds the host's name; give what is wrong, or nothing."""
    try:
        patterns = extract_patterns(cert.to_cryptography())
        verify_service_identity(patterns, [wanted], [])
    except VerificationError:
        names = [_pattern_text(p) for p in patterns if isinstance(p, DNSPattern | IPAddressPattern)]
        shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
        return clean_text(f"the certificate is for {shown}, not for {host} ({_NAME_SETTINGS})")
    except (CertificateError, ValueError):
        return f"the certificate holds no usable host names ({_NAME_SETTINGS})"
    return ""


def _pattern_text(pattern: DNSPattern | IPAddressPattern) -> str:
    if isinstance(pattern, DNSPattern):
        return pattern.pattern.decode("ascii", "replace")
    return str(pattern.pattern)


def _identity(host: str) -> DNS_ID | IPAddress_ID:
    if _is_ip(host):
        return IPAddress_ID(host)
    try:
        return DNS_ID(host)
    except ValueError as error:
        raise TlsConfigError(
            f"{host} is no name that a certificate can hold ({_NAME_SETTINGS})"
        ) from error


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _ascii(host: str) -> str:
    """Give the name as it stands in certificates (A-labels, UTS 46)."""
    if host.isascii():
        return host.lower().rstrip(".")
    try:
        return idna.encode(host, uts46=True).decode("ascii").rstrip(".")
    except idna.IDNAError as error:
        raise TlsConfigError(f"{host} is no valid host name (SMTP_HOST): {error}") from error


def _fingerprint(path: str) -> tuple[int, int, int]:
    """Tell one state of a file from another."""
    try:
        state = os.stat(path)  # noqa: PTH116 -- an empty path must fail here, Path("") is "."
    except OSError:
        return (0, 0, 0)
    return (state.st_mtime_ns, state.st_size, state.st_ino)


def _read(setting: str, path: str) -> bytes:
    if not path:
        raise TlsConfigError(f"{setting}: no file is named")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsConfigError(f"{setting}: cannot read {path}: {error.strerror}") from error


def _load_certificates(setting: str, path: str) -> list[crypto.X509]:
    pem = _read(setting, path)
    try:
        return [crypto.X509.from_cryptography(c) for c in x509.load_pem_x509_certificates(pem)]
    except ValueError as error:
        raise TlsConfigError(f"{setting}: {path} holds no PEM certificate") from error


def _load_key(path: str) -> crypto.PKey:
    pem = _read("MAILER_SSL_KEY", path)
    try:
        # An empty pass phrase keeps OpenSSL from asking for one on the terminal.
        return crypto.load_privatekey(crypto.FILETYPE_PEM, pem, passphrase=b"")
    except (crypto.Error, ValueError, TypeError) as error:
        raise TlsConfigError(
            f"MAILER_SSL_KEY: {path} holds no PEM private key without pass phrase"
        ) from error
