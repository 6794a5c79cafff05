# SPDX-License-Identifier: MIT
"""What settings have to be to each other, and which of them deserve a warning."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from smtpmailer.core import oauth
from smtpmailer.core.model import Encryption
from smtpmailer.core.passwords import hash_method

if TYPE_CHECKING:
    from smtpmailer.core.settings import Settings

__all__ = ["Findings", "check"]

_KEY_BYTES: Final = {"AES128": 16, "AES256": 32, "XChaCha20": 32}
_USUAL_PORTS: Final = {465: Encryption.TLS, 587: Encryption.STARTTLS}


#: The keys that a fault is about, the one to name first, and what is wrong.
_Fault: TypeAlias = tuple[tuple[str, ...], str]


@attrs.frozen
class Findings:
    """Faults as (key, what is wrong with it), and warnings as whole lines."""

    faults: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def check(settings: Settings, faulty: Collection[str]) -> Findings:
    """Check all rules, except those about a key in ``faulty``: its value is not the user's."""
    found = (*_listener(settings), *_redis(settings), *_queue(settings), *_smtp(settings))
    return Findings(
        tuple((keys[0], text) for keys, text in found if not set(keys) & set(faulty)),
        (
            *_exposure(settings),
            *_redis_warnings(settings),
            *_smtp_warnings(settings),
            *_idle_keys(settings),
        ),
    )


def _listener(s: Settings) -> Iterator[_Fault]:
    if s.mailer_proto == "ssl":
        if not s.mailer_ssl_cert:
            yield (
                ("MAILER_SSL_CERT", "MAILER_PROTO"),
                "has to name a PEM file when MAILER_PROTO = ssl",
            )
        if not s.mailer_ssl_key:
            yield (
                ("MAILER_SSL_KEY", "MAILER_PROTO"),
                "has to name a PEM file when MAILER_PROTO = ssl",
            )
    if s.mailer_auth:
        yield from _auth_hash(s)


def _auth_hash(s: Settings) -> Iterator[_Fault]:
    made = "make one with smtpmailer hash-password"
    method = hash_method(s.mailer_auth_hash)
    if not s.mailer_auth_hash:
        if s.mailer_keys_file:
            return
        text = f"has to be set when MAILER_AUTH = true; {made}"
    elif method is None:
        text = f"is no bcrypt, argon2i or argon2id (sodium) hash; {made}"
    elif method != s.mailer_auth_hash_method:
        text = (
            f"is of the kind {method}, but MAILER_AUTH_HASH_METHOD = "
            f"{s.mailer_auth_hash_method}; one of the two has to change"
        )
    else:
        return
    yield ("MAILER_AUTH_HASH", "MAILER_AUTH_HASH_METHOD"), text


def _redis(s: Settings) -> Iterator[_Fault]:
    if s.redis_enable and s.redis_sentinels and not s.redis_sentinel_master:
        text = "has to name the master when REDIS_SENTINELS is set"
        yield ("REDIS_SENTINEL_MASTER", "REDIS_SENTINELS"), text


def _queue(s: Settings) -> Iterator[_Fault]:
    if not s.mailer_queue:
        return
    size = _KEY_BYTES[s.queue_encrypt_method]
    if len(s.secret_key) != size:
        holds = f"holds {len(s.secret_key)} bytes" if s.secret_key else "is empty"
        text = (
            f"{holds}, but has to hold {size} bytes in base64 when MAILER_QUEUE = true and "
            f"QUEUE_ENCRYPT_METHOD = {s.queue_encrypt_method}; "
            "make one with smtpmailer generate-key"
        )
        yield ("SECRET_KEY", "QUEUE_ENCRYPT_METHOD", "MAILER_QUEUE"), text
    if s.queue_scan_mode == "cron" and not s.queue_scan_cron:
        yield ("QUEUE_SCAN_CRON",), "has to be a crontab time when QUEUE_SCAN_MODE = cron"
    if s.queue_dir == s.queue_process_dir:
        text = "has to be another directory than QUEUE_DIR"
        yield ("QUEUE_PROCESS_DIR", "QUEUE_DIR"), text


def _smtp(s: Settings) -> Iterator[_Fault]:
    if not s.smtp_host:
        yield ("SMTP_HOST",), "has to be the host name or IP address of the SMTP server"
    if s.smtp_oauth2 is not None:
        yield from _oauth2(s, s.smtp_oauth2)
    elif s.smtp_user and not s.smtp_password:
        text = "is set without SMTP_PASSWORD; set both, or none for no login"
        # A source of tokens that is faulty counts as none.
        yield ("SMTP_USER", "SMTP_PASSWORD", "SMTP_OAUTH2_TOKEN_COMMAND"), text


def _oauth2(s: Settings, source: oauth.OAuth2) -> Iterator[_Fault]:
    def key(field: str) -> str:
        return f"SMTP_OAUTH2_{field.upper()}"

    for field, text in oauth.faults(source, key):
        yield (key(field),), text
    if not s.smtp_user:
        text = "has to be set with SMTP_OAUTH2_*: the mailbox that the tokens are for"
        yield ("SMTP_USER",), text
    if s.smtp_password:
        yield ("SMTP_PASSWORD",), "can't be set beside SMTP_OAUTH2_*: a token takes its place"
    if s.smtp_encryption is Encryption.NONE:
        text = "can't be none with SMTP_OAUTH2_*: who sees a token can use it"
        yield ("SMTP_ENCRYPTION",), text


def _exposure(s: Settings) -> Iterator[str]:
    if not s.mailer_auth and not _is_loopback(s.mailer_addr):
        yield (
            f"MAILER_AUTH is off and MAILER_ADDR = {s.mailer_addr}: whoever reaches the port "
            "can send mail"
        )
    if s.attachment_dirs is None:
        yield (
            "ATTACHMENT_DIRS is not set: a mail may carry any file that the service can read; "
            "name the directories of files to attach"
        )
    elif not s.attachment_dirs:
        yield "ATTACHMENT_DIRS is empty: no mail can carry a file"


def _redis_warnings(s: Settings) -> Iterator[str]:
    if not s.redis_enable:
        for key in ("REDIS_STORE_QUEUE", "REDIS_STORE_TEMPLATE"):
            if getattr(s, key.lower()):
                yield f"{key} has no effect without REDIS_ENABLE"
        return
    if s.redis_proto == "tcp":
        hosts = [host for host, _ in s.redis_sentinels] or [s.redis_addr]
        if not all(map(_is_loopback, hosts)):
            yield "REDIS_PROTO = tcp: all that Redis keeps crosses the network unprotected"
        if s.redis_ca_file:
            yield "REDIS_CA_FILE has no effect without REDIS_PROTO = tls"
    if s.redis_user and not s.redis_password:
        yield "REDIS_USER is set without REDIS_PASSWORD: that works for users without one only"
    for key in ("REDIS_SENTINEL_MASTER", "REDIS_SENTINEL_USER", "REDIS_SENTINEL_PASSWORD"):
        if getattr(s, key.lower()) and not s.redis_sentinels:
            yield f"{key} has no effect without REDIS_SENTINELS"


def _smtp_warnings(s: Settings) -> Iterator[str]:
    if s.smtp_password and not s.smtp_user:
        yield "SMTP_PASSWORD has no effect without SMTP_USER"
    if s.smtp_encryption is Encryption.NONE:
        if s.smtp_user:
            yield "SMTP_ENCRYPTION = none: the SMTP password crosses the network unprotected"
    elif not s.smtp_tls_verify:
        yield "SMTP_TLS_VERIFY is off: anybody can pose as the SMTP server"
    usual = _USUAL_PORTS.get(s.smtp_port)
    if usual and s.smtp_encryption is not usual:
        yield (
            f"SMTP_PORT = {s.smtp_port} usually goes with SMTP_ENCRYPTION = {usual.value}, "
            f"not {s.smtp_encryption.value}"
        )


def _idle_keys(s: Settings) -> Iterator[str]:
    if s.mailer_keys_file and not s.mailer_auth:
        yield "MAILER_KEYS_FILE has no effect without MAILER_AUTH"
    if s.mailer_ssl_client_ca and s.mailer_proto != "ssl":
        yield "MAILER_SSL_CLIENT_CA has no effect without MAILER_PROTO = ssl"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
