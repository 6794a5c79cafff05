# SPDX-License-Identifier: MIT
"""The front door's part of the composition root: passwords, limits, TLS."""

from __future__ import annotations

import secrets
from typing import Any

import attrs
from twisted.application.service import IService

from smtpmailer.core.limits import ProtocolLimits
from smtpmailer.core.requests import MailLimits
from smtpmailer.core.settings import Settings
from smtpmailer.keysfile import load_keys
from smtpmailer.lifecycle import Part
from smtpmailer.protocol import JsonFactory
from smtpmailer.reloading import Reloadable
from smtpmailer.services.auth import PasswordAuth
from smtpmailer.threads import Threads
from smtpmailer.tlsport import TlsPortFactory

__all__ = ["AuthParts", "build_auth", "mail_limits", "protocol_limits", "wrap_tls"]

#: Password hashes that are computed at the same time.
_HASH_THREADS = 2


@attrs.frozen(kw_only=True)
class AuthParts:
    """What passwords add to the service; ``auth`` is None when nobody needs one."""

    auth: PasswordAuth | None
    threads: IService
    reloads: tuple[Reloadable, ...]

    def stop_delaying(self) -> None:
        """Answer wrong passwords at once from now on."""
        if self.auth is not None:
            self.auth.stop()


def build_auth(settings: Settings, reactor: Any) -> AuthParts:
    """Put authentication together; reads the keys. Raises SettingsError."""
    threads = Threads(reactor, name="smtpmailer-hash", size=_HASH_THREADS)
    part = Part("hash threads", start=threads.start, stop=threads.stop)
    if not settings.mailer_auth:
        return AuthParts(auth=None, threads=part, reloads=())
    auth = PasswordAuth(load_keys(settings), threads, reactor, secret=secrets.token_bytes(32))
    keys = Reloadable(
        what="MAILER_KEYS_FILE",
        files=(settings.mailer_keys_file,),
        apply=lambda: auth.use(load_keys(settings)),
    )
    return AuthParts(auth=auth, threads=part, reloads=(keys,) if settings.mailer_keys_file else ())


def wrap_tls(
    settings: Settings, factory: JsonFactory, reactor: Any
) -> tuple[Any, tuple[Reloadable, ...]]:
    """Give what listens: the factory, in TLS when MAILER_PROTO says so. Raises TlsConfigError."""
    if settings.mailer_proto != "ssl":
        return factory, ()
    # Importing it installs a reactor, so not before there is one.
    from smtpmailer.delivery.tls import ServerTls  # noqa: PLC0415

    files = (settings.mailer_ssl_cert, settings.mailer_ssl_key, settings.mailer_ssl_client_ca)
    tls = ServerTls(*files)
    named = "MAILER_SSL_CERT, MAILER_SSL_KEY"
    what = f"{named}, MAILER_SSL_CLIENT_CA" if settings.mailer_ssl_client_ca else named
    reload = Reloadable(what=what, files=tuple(filter(None, files)), apply=tls.reload)
    return TlsPortFactory(tls, factory, reactor), (reload,)


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


def mail_limits(settings: Settings) -> MailLimits:
    """Give the limits of one mail."""
    return MailLimits(max_recipients=settings.mail_max_recipients, sender=settings.mail_from_addr)
