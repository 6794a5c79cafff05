# SPDX-License-Identifier: MIT
"""The configuration keys of the service itself: its port, limits and passwords, and Redis."""

# ruff: noqa: RUF009 - setting is attrs.field with our metadata; ruff can't see that

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

from smtpmailer.core.options import PORT, Choice, Crontab, Flag, Host, Number, Path, Text
from smtpmailer.core.options_addresses import Addresses
from smtpmailer.core.settings_fields import setting as _key

__all__ = ["ServiceSettings"]

_Level: TypeAlias = Literal["debug", "info", "notice", "warning", "error"]
_MIB: Final = 1024 * 1024


@attrs.frozen(kw_only=True)
class ServiceSettings:
    """The first half of the keys; see Settings."""

    mailer_proto: Literal["tcp", "ssl"] = _key(
        "mailer", Choice(("tcp", "ssl")), "tcp", "Protocol of the API; ssl is TLS."
    )
    mailer_addr: str = _key(
        "mailer",
        Host(optional=False),
        "127.0.0.1",
        "Address or host name on which the API listens.",
    )
    mailer_port: int = _key("mailer", PORT, 3000, "Port of the API.")
    mailer_ssl_cert: str = _key(
        "mailer", Path(), "", "PEM file of the API's certificate and its chain; needed with ssl."
    )
    mailer_ssl_key: str = _key(
        "mailer", Path(), "", "PEM file of the certificate's private key; needed with ssl."
    )
    mailer_ssl_client_ca: str = _key(
        "mailer", Path(), "", "PEM file of authorities; with it a client needs their certificate."
    )
    mailer_workers: int = _key(
        "mailer",
        Number(1, 60),
        1,
        "Processes that serve the API; with more than 1 another one runs the queue.",
    )
    mailer_max_memory: int = _key(
        "mailer",
        Number(16),
        64,
        "A process above it is replaced once it is idle; with one worker only when it is not 64.",
        unit="MB",
    )
    mailer_max_request: int = _key(
        "mailer",
        Number(-1),
        -1,
        "A worker is replaced after so many requests; -1 or 0: never.",
    )
    mailer_restart_cron: str = _key(
        "mailer",
        Crontab(),
        "",
        "Times at which all processes are replaced one after another.",
    )
    mailer_stop_timeout: int = _key(
        "mailer",
        Number(1, 86400),
        30,
        "Time that requests and deliveries have to end when the service stops.",
        unit="s",
    )
    mailer_run_dir: str = _key(
        "mailer",
        Path(optional=False),
        "run/",
        "Directory of the PID file, and of the socket for smtpmailer status, stop and others.",
    )
    mailer_timeout: int = _key(
        "mailer", Number(1), 300, "Limit of each wait for an SMTP server.", unit="s"
    )
    mailer_log: bool = _key("mailer", Flag(), True, "Whether the service logs.")
    mailer_log_level: _Level = _key(
        "mailer",
        Choice(("debug", "info", "notice", "warning", "error")),
        "notice",
        "The least important messages that are logged.",
    )
    mailer_log_output: Literal["error_log", "syslog"] = _key(
        "mailer",
        Choice(("error_log", "syslog")),
        "error_log",
        "Where the log goes; error_log is standard error, or twistd's log file.",
    )
    mailer_log_format: Literal["text", "json"] = _key(
        "mailer",
        Choice(("text", "json")),
        "text",
        "What a line of the log is: text for people, or a JSON object for programs.",
    )
    mailer_metrics_port: int = _key(
        "mailer",
        Number(0, 65535),
        0,
        "The port that serves /metrics (for Prometheus), /livez and /readyz over HTTP; 0 is none.",
    )
    mailer_metrics_addr: str = _key(
        "mailer",
        Host(optional=False),
        "127.0.0.1",
        "The address of that port. It has no password: whoever reaches it may read the figures.",
    )
    mailer_max_request_size: int = _key(
        "limit", Number(1024), 32 * _MIB, "Largest request.", unit="bytes"
    )
    mailer_max_buffered: int = _key(
        "limit",
        Number(_MIB),
        256 * _MIB,
        "Requests of all clients, being received or done.",
        unit="bytes",
    )
    mailer_max_depth: int = _key(
        "limit", Number(8, 500), 64, "Deepest nesting of a request's JSON.", unit="levels"
    )
    mailer_max_connections: int = _key(
        "limit", Number(1), 10000, "Connections that may be open at a time."
    )
    mailer_max_connections_per_peer: int = _key(
        "limit", Number(0), 5000, "Connections of one client address at a time; 0: no limit."
    )
    mailer_max_in_flight: int = _key(
        "limit", Number(1), 100, "Requests of one connection that may be unanswered at a time."
    )
    mailer_idle_timeout: int = _key(
        "limit", Number(1), 300, "A connection is closed after so long without a request.", unit="s"
    )
    mailer_request_timeout: int = _key(
        "limit", Number(1), 60, "Time from a request's first byte to its last.", unit="s"
    )
    mailer_once_keep: int = _key(
        "limit",
        Number(60, 31_536_000),
        86400,
        "How long the answer to a request with a key (once) is remembered.",
        unit="s",
    )
    mailer_auth: bool = _key("auth", Flag(), False, "Whether a request needs the password.")
    mailer_auth_hash_method: Literal["bcrypt", "argon2i", "sodium"] = _key(
        "auth",
        Choice(("bcrypt", "argon2i", "sodium")),
        "bcrypt",
        "Kind of the password's hash; sodium is argon2id.",
    )
    mailer_auth_hash: str = _key(
        "auth",
        Text(),
        "",
        "Hash of the password, from smtpmailer hash-password; MAILER_AUTH needs it or keys.",
        secret=True,
    )
    mailer_keys_file: str = _key(
        "auth",
        Path(),
        "",
        "JSON file of further passwords and what each allows; mode 0600, or 0640 if it is another"
        " owner's (such as root's) and has the service's own group.",
    )
    redis_enable: bool = _key(
        "redis", Flag(), False, "Whether Redis keeps the counters, and what the next keys name."
    )
    redis_proto: Literal["tcp", "tls"] = _key(
        "redis", Choice(("tcp", "tls")), "tcp", "Protocol of the Redis server, and of sentinels."
    )
    redis_addr: str = _key(
        "redis", Host(optional=False), "127.0.0.1", "Address or host name of the Redis server."
    )
    redis_port: int = _key("redis", PORT, 6379, "Port of the Redis server.")
    redis_ca_file: str = _key(
        "redis",
        Path(),
        "",
        "PEM file of the authorities to trust, with tls; empty: those of the system.",
    )
    redis_key_prefix: str = _key(
        "redis", Text(), "SMTP_MAILER:", "What every Redis key begins with."
    )
    redis_db: int = _key("redis", Number(), 0, "Number of the Redis database.")
    redis_timeout: int = _key(
        "redis", Number(), 0, "Limit of connecting to Redis; 0: 10 s.", unit="s"
    )
    redis_retry_interval: int = _key(
        "redis",
        Number(),
        100,
        "Pause before connecting to Redis again; grows to 5 s while that fails.",
        unit="ms",
    )
    redis_read_timeout: int = _key(
        "redis", Number(), 10, "Limit of each wait for an answer of Redis; 0: 300 s.", unit="s"
    )
    redis_store_queue: bool = _key(
        "redis", Flag(), False, "Whether Redis keeps the queue, instead of QUEUE_DIR."
    )
    redis_store_template: bool = _key(
        "redis", Flag(), False, "Whether Redis keeps the templates, instead of EMAIL_TEMPLATE_DIR."
    )
    redis_reset_stats_on_start: bool = _key(
        "redis", Flag(), True, "Whether the counters in Redis begin at 0 when the service starts."
    )
    redis_user: str = _key("redis", Text(), "", "User of Redis (ACL).", secret=True)
    redis_password: str = _key("redis", Text(), "", "Password of Redis.", secret=True)
    redis_sentinels: tuple[tuple[str, int], ...] = _key(
        "redis",
        Addresses(26379),
        "",
        "Sentinels, host:port with commas between; they tell where the server is, instead of "
        "REDIS_ADDR and REDIS_PORT.",
    )
    redis_sentinel_master: str = _key(
        "redis", Text(), "", "Name of the server as the sentinels know it."
    )
    redis_sentinel_user: str = _key("redis", Text(), "", "User of the sentinels.", secret=True)
    redis_sentinel_password: str = _key(
        "redis", Text(), "", "Password of the sentinels.", secret=True
    )
    redis_wait_replicas: int = _key(
        "redis",
        Number(0, 100),
        0,
        "Replicas that must have a change of the queue or a template before it counts as made.",
    )
