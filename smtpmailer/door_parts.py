# SPDX-License-Identifier: MIT
"""The front door's part of the composition root: passwords, limits, TLS."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.service import IService

from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.core.requests import MailLimits
from smtpmailer.core.settings import Settings
from smtpmailer.core.tallies import SharedRates
from smtpmailer.delivery.limits import PoolLimits
from smtpmailer.keysfile import load_keys
from smtpmailer.lifecycle import Part
from smtpmailer.protocol import JsonFactory
from smtpmailer.reloading import Reloadable
from smtpmailer.services.auth import PasswordAuth
from smtpmailer.threads import Threads
from smtpmailer.tlsport import TlsPortFactory

if TYPE_CHECKING:
    from smtpmailer.delivery.tls import ServerTls

__all__ = ["AuthParts", "TlsDoor", "build_auth", "mail_limits", "pool_limits", "protocol_limits"]

#: Password hashes that are computed at the same time.
_HASH_THREADS = 2


@attrs.frozen(kw_only=True)
class AuthParts:
    """What passwords add to the service; they count when MAILER_AUTH is on."""

    auth: PasswordAuth
    threads: IService

    def reloads(self, settings: Settings) -> tuple[Reloadable, ...]:
        """Give the file of keys, if there is one."""
        if not (settings.mailer_auth and settings.mailer_keys_file):
            return ()
        keys = Reloadable(
            what="MAILER_KEYS_FILE",
            files=(settings.mailer_keys_file,),
            apply=lambda: self.auth.use(load_keys(settings)),
        )
        return (keys,)


def build_auth(settings: Settings, reactor: Any, rates: SharedRates | None = None) -> AuthParts:
    """Put authentication together; reads the keys. Raises SettingsError.

    ``rates`` count each key's mails.
    """
    threads = Threads(reactor, name="smtpmailer-hash", size=_HASH_THREADS)
    keys = load_keys(settings)
    return AuthParts(
        auth=PasswordAuth(keys, threads, reactor, secret=secrets.token_bytes(32), rates=rates),
        threads=Part("hash threads", start=threads.start, stop=threads.stop),
    )


class TlsDoor:
    """The port's TLS, or nothing when MAILER_PROTO = tcp."""

    def __init__(self, settings: Settings) -> None:
        """Read certificate and key; raises TlsConfigError."""
        self._tls: ServerTls | None = None
        if settings.mailer_proto == "ssl":
            # Importing it installs a reactor, so not before there is one.
            from smtpmailer.delivery.tls import ServerTls  # noqa: PLC0415

            self._tls = ServerTls(*_tls_files(settings))

    def wrap(self, factory: JsonFactory, reactor: Any) -> Any:
        """Give what listens."""
        return factory if self._tls is None else TlsPortFactory(self._tls, factory, reactor)

    def use(self, settings: Settings) -> None:
        """Use the settings' files from now on; raises TlsConfigError and changes nothing."""
        if self._tls is not None:
            self._tls.use(*_tls_files(settings))

    def reloads(self, settings: Settings) -> tuple[Reloadable, ...]:
        """Give the files, if there are any."""
        if self._tls is None:
            return ()
        named = "MAILER_SSL_CERT, MAILER_SSL_KEY"
        what = f"{named}, MAILER_SSL_CLIENT_CA" if settings.mailer_ssl_client_ca else named
        files = tuple(filter(None, _tls_files(settings)))
        return (Reloadable(what=what, files=files, apply=self._tls.reload),)


def _tls_files(settings: Settings) -> tuple[str, str, str]:
    return settings.mailer_ssl_cert, settings.mailer_ssl_key, settings.mailer_ssl_client_ca


def protocol_limits(settings: Settings) -> ProtocolLimits:
    """Give the limits of the protocol."""
    return ProtocolLimits(
        max_request_bytes=settings.mailer_max_request_size,
        max_depth=settings.mailer_max_depth,
        idle_timeout=settings.mailer_idle_timeout,
        request_timeout=settings.mailer_request_timeout,
        max_connections=settings.mailer_max_connections,
        max_connections_per_peer=settings.mailer_max_connections_per_peer,
        max_in_flight=settings.mailer_max_in_flight,
        max_buffered_bytes=settings.mailer_max_buffered,
    )


def pool_limits(settings: Settings) -> PoolLimits:
    """Give the limits of sessions with SMTP servers."""
    return PoolLimits(
        connections=settings.smtp_max_connections,
        connections_in_all=10 * settings.smtp_max_connections,
        mails_per_connection=settings.smtp_max_messages_per_connection,
        idle_seconds=settings.smtp_idle_timeout,
        depth=settings.smtp_pipeline_depth,
        rate=settings.smtp_rate_limit,
    )


def mail_limits(settings: Settings) -> MailLimits:
    """Give the limits of one mail."""
    return MailLimits(max_recipients=settings.mail_max_recipients, sender=settings.mail_from_addr)
