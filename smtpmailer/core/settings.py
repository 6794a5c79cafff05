# SPDX-License-Identifier: MIT
"""Every configuration key, said once, as the fields of one frozen value."""

# ruff: noqa: RUF009 - setting is attrs.field with our metadata; ruff can't see that

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import attrs

from smtpmailer.core.model import Encryption
from smtpmailer.core.oauth import OAuth2
from smtpmailer.core.options import (
    PORT,
    Base64Key,
    Base64Keys,
    Choice,
    Crontab,
    Factor,
    Flag,
    Host,
    MailAddress,
    Number,
    Option,
    Path,
    PathList,
    Text,
)
from smtpmailer.core.options_command import Command
from smtpmailer.core.options_rate import MailRate
from smtpmailer.core.rates import Rate
from smtpmailer.core.settings_fields import OPTION
from smtpmailer.core.settings_fields import setting as _key
from smtpmailer.core.settings_service import ServiceSettings

__all__ = ["OPTIONS", "Settings"]

_Charset: TypeAlias = Literal["utf-8", "us-ascii", "iso-8859-1"]
_BodyEncoding: TypeAlias = Literal["7bit", "8bit", "base64", "binary", "quoted-printable"]
_MIB: Final = 1024 * 1024


@attrs.frozen(kw_only=True)
class Settings(ServiceSettings):
    """Every key of the configuration, in lower case; the help texts say what each means.

    Paths are absolute when ``from_values`` made them. ``warnings`` are lines for the log at start;
    ``secret_files`` are files that no mail may carry, beside the directories of the queue.
    """

    mailer_queue: bool = _key(
        "queue", Flag(), True, "Whether mails can be queued; failed ones are tried again then."
    )
    mailer_queue_api_read_only: bool = _key(
        "queue", Flag(), True, "Whether the API refuses to change and remove queued mails."
    )
    queue_scan_mode: Literal["interval", "cron"] = _key(
        "queue",
        Choice(("interval", "cron")),
        "interval",
        "Whether QUEUE_SCAN_INTERVAL or QUEUE_SCAN_CRON says when the queue is looked through.",
    )
    queue_scan_cron: str = _key(
        "queue", Crontab(), "", "Times at which the queue is looked through; needed with cron."
    )
    queue_scan_interval: int = _key(
        "queue", Number(1), 60, "Time between two looks through the queue.", unit="s"
    )
    queue_max_batch_size: int = _key(
        "queue", Number(1), 20, "Mails that are taken from the queue at a time."
    )
    queue_max_failed_retry: int = _key(
        "queue", Number(-1), 1, "Further attempts after a failed one; 0: none, -1: without end."
    )
    queue_dir: str = _key(
        "queue", Path(optional=False), "Queue/mail/", "Directory of the mails that wait."
    )
    queue_process_dir: str = _key(
        "queue", Path(optional=False), "Queue/temp/", "Directory of the mails that are being sent."
    )
    queue_failed_dir: str = _key(
        "queue",
        Path(optional=False),
        "Queue/failed/",
        "Directory of the mails that could not be delivered, and of what could not be read.",
    )
    queue_fsync: bool = _key(
        "queue",
        Flag(),
        True,
        "Whether a mail is on stable storage before it counts as accepted.",
    )
    queue_concurrency: int = _key(
        "queue",
        Number(1, 10000),
        20,
        "Mails that are delivered from the queue at a time; up to 1.75 times as many while servers "
        "that answer slowly hold some of them up.",
    )
    queue_send_immediately: bool = _key(
        "queue",
        Flag(),
        False,
        "Whether a mail is sent as soon as it is due; otherwise at the next look.",
        example=True,
    )
    queue_lease: int = _key(
        "queue",
        Number(2),
        600,
        "How long a node that is not heard of keeps its mails, where Redis keeps the queue.",
        unit="s",
    )
    queue_retry_delay: int = _key(
        "queue", Number(1), 60, "Wait before the second attempt.", unit="s"
    )
    queue_retry_factor: float = _key(
        "queue", Factor(), 2, "By how much each wait is longer than the one before it."
    )
    queue_retry_max_delay: int = _key(
        "queue", Number(1), 14400, "Longest wait between two attempts.", unit="s"
    )
    queue_max_age: int = _key(
        "queue",
        Number(0),
        0,
        "Time after which a mail is given up, whatever the attempts; 0: never.",
        unit="s",
    )
    queue_on_doubt: Literal["resend", "hold"] = _key(
        "queue",
        Choice(("resend", "hold")),
        "resend",
        "What becomes of a mail that may have been delivered: sent again, or held for a person.",
    )
    queue_snapshot_template: bool = _key(
        "queue",
        Flag(),
        False,
        "Whether a mail keeps the text that its template gave when it was queued; otherwise the "
        "template is read when the mail is sent.",
        example=True,
    )
    queue_full_encrypt: bool = _key(
        "queue",
        Flag(),
        False,
        "Whether queued mails are encrypted as a whole; the SMTP password always is.",
    )
    queue_encrypt_method: Literal["AES128", "AES256", "XChaCha20"] = _key(
        "queue", Choice(("AES128", "AES256", "XChaCha20")), "AES128", "Cipher of queued mails."
    )
    secret_key: bytes = _key(
        "queue",
        Base64Key(),
        "",
        "Key of queued mails, from smtpmailer generate-key: 16 bytes for AES128, else 32; "
        "needed with MAILER_QUEUE.",
        secret=True,
    )
    secret_key_old: tuple[bytes, ...] = _key(
        "queue",
        Base64Keys(),
        "",
        "Earlier values of SECRET_KEY, with commas between: what they encrypted is still read.",
        secret=True,
    )
    smtp_host: str = _key(
        "smtp",
        Host(),
        "",
        "Address or host name of the SMTP server.",
        required=True,
        example="smtp.example.com",
    )
    smtp_port: int = _key("smtp", PORT, 587, "Port of the SMTP server; usual with ssl: 465.")
    smtp_encryption: Encryption = _key(
        "smtp",
        Choice(("tls", "ssl", "none"), Encryption),
        "tls",
        "tls is STARTTLS, and required; ssl is TLS from the first byte; none is no protection.",
    )
    smtp_user: str = _key("smtp", Text(), "", "User of the SMTP server; empty: no login.")
    smtp_password: str = _key(
        "smtp", Text(), "", "Password of the SMTP server; empty: no login.", secret=True
    )
    smtp_oauth2_token_endpoint: str = _key(
        "smtp",
        Text(),
        "",
        "URL (https) of a server that gives access tokens; they take SMTP_PASSWORD's place.",
    )
    smtp_oauth2_client_id: str = _key("smtp", Text(), "", "Id of the client at that server.")
    smtp_oauth2_client_secret: str = _key(
        "smtp", Text(), "", "Secret of the client at that server.", secret=True
    )
    smtp_oauth2_scope: str = _key(
        "smtp", Text(), "", "What the tokens are to be good for, with blanks between."
    )
    smtp_oauth2_refresh_token: str = _key(
        "smtp",
        Text(),
        "",
        "Refresh token of the user who allowed it; without one the tokens are the client's own.",
        secret=True,
    )
    smtp_oauth2_token_file: str = _key(
        "smtp",
        Path(),
        "",
        "File that always holds a good access token, instead of a server; read for each login.",
    )
    smtp_oauth2_token_command: tuple[str, ...] = _key(
        "smtp",
        Command(),
        "",
        "Command that writes an access token, instead of a server; no shell runs it.",
    )
    smtp_accounts_file: str = _key(
        "smtp",
        Path(),
        "",
        "JSON file of further accounts for mails to go through; mode 0600, or 0640 if it is another"
        " owner's (such as root's) and has the service's own group.",
    )
    smtp_failover: str = _key(
        "smtp",
        Text(),
        "",
        "Accounts of that file, with commas between, to try when SMTP_HOST certainly did not take "
        "a mail.",
    )
    smtp_ca_file: str = _key(
        "smtp", Path(), "", "PEM file of authorities to trust besides those of the system."
    )
    smtp_tls_verify: bool = _key(
        "smtp", Flag(), True, "Whether the SMTP server's certificate and name are checked."
    )
    smtp_ehlo_name: str = _key(
        "smtp",
        Host(literals=True),
        "",
        "Name that the service gives itself to SMTP servers; empty: the machine's.",
    )
    smtp_delivery_limit: int = _key(
        "smtp",
        Number(1),
        1800,
        "Limit of a whole delivery, however often the server answers in between.",
        unit="s",
    )
    smtp_max_connections: int = _key(
        "smtp",
        Number(1, 10000),
        10,
        "Connections that each process has to one SMTP server with one account at a time; to all "
        "servers together ten times as many.",
    )
    smtp_rate_limit: Rate | None = _key(
        "smtp",
        MailRate(),
        "",
        "Mails that an account may get in a second, minute, hour or day, such as 10/s, 300/m, "
        "5000/h or 2000/d, from all processes together; empty: no limit.",
    )
    smtp_max_messages_per_connection: int = _key(
        "smtp",
        Number(1),
        100,
        "Mails after which a connection to an SMTP server is closed at the latest; some are closed "
        "up to a third of them earlier, so that those opened together don't end together.",
    )
    smtp_idle_timeout: int = _key(
        "smtp",
        Number(0),
        30,
        "A connection to an SMTP server is closed after so long without a mail; 0: at once.",
        unit="s",
    )
    smtp_pipeline_depth: int = _key(
        "smtp",
        Number(1, 100),
        2,
        "Mails that may be under way on a connection at a time where the SMTP server offers "
        "PIPELINING; at most so many are in doubt when it breaks.",
    )
    mail_html: bool = _key("mail", Flag(), True, "Whether bodies are HTML, else plain text.")
    mail_charset: _Charset = _key(
        "mail",
        Choice(("utf-8", "us-ascii", "iso-8859-1")),
        "utf-8",
        "Charset of bodies; one that it can't express is sent as utf-8.",
    )
    mail_encoding: _BodyEncoding = _key(
        "mail",
        Choice(("7bit", "8bit", "base64", "binary", "quoted-printable")),
        "8bit",
        "Transfer encoding of bodies, where the SMTP server and the text allow it.",
    )
    mail_from_addr: str = _key(
        "mail", MailAddress(), "", "Sender of mails that name none.", example="mailer@example.com"
    )
    mail_from_name: str = _key("mail", Text(), "", "Display name of the sender.", example="Mailer")
    mail_max_size: int = _key(
        "mail",
        Number(0),
        64 * _MIB,
        "Largest message, all being encoded; 0: no limit.",
        unit="bytes",
    )
    mail_max_memory: int = _key(
        "mail",
        Number(0),
        160 * _MIB,
        "Memory of a process for mails with attachments that are built and sent at a time; further "
        "ones wait. A mail takes four times the size of its files. 0: no limit.",
        unit="bytes",
    )
    mail_max_recipients: int = _key(
        "mail", Number(0), 100, "Recipients of one mail, in to, ccList and bccList; 0: no limit."
    )
    attachment_dirs: tuple[str, ...] | None = _key(
        "mail",
        PathList(),
        None,
        "Directories, with : between them, from which files may be attached; empty: none. "
        "Without the key any readable file may be.",
        example="Attachments/",
    )
    email_template: bool = _key("template", Flag(), True, "Whether mails can use templates.")
    email_template_dir: str = _key(
        "template", Path(optional=False), "Template/html/", "Directory of the templates."
    )
    email_template_api_read_only: bool = _key(
        "template", Flag(), True, "Whether the API refuses to add, change and remove templates."
    )
    email_template_string_tag_open: str = _key(
        "template", Text(1), "{{", "What stands in front of a name to be replaced in a template."
    )
    email_template_string_tag_close: str = _key(
        "template", Text(1), "}}", "What stands behind that name."
    )
    email_template_escape: Literal["none", "html"] = _key(
        "template",
        Choice(("none", "html")),
        "none",
        "What is done to values in HTML mails: html makes them text, none leaves them HTML.",
        example="html",
    )
    email_template_strict: bool = _key(
        "template",
        Flag(),
        False,
        "Whether a tag without a value, or a value without a tag, is an error.",
        example=True,
    )

    base_path: str = ""
    secret_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def smtp_oauth2(self) -> OAuth2 | None:
        """Where the tokens for SMTP_USER come from, if it logs in with one."""
        source = OAuth2(
            token_endpoint=self.smtp_oauth2_token_endpoint,
            client_id=self.smtp_oauth2_client_id,
            client_secret=self.smtp_oauth2_client_secret,
            scope=self.smtp_oauth2_scope,
            refresh_token=self.smtp_oauth2_refresh_token,
            token_file=self.smtp_oauth2_token_file,
            token_command=self.smtp_oauth2_token_command,
        )
        return None if source == OAuth2() else attrs.evolve(source, ca_file=self.smtp_ca_file)


#: Every key, in the order of the reference.
OPTIONS: Final[Mapping[str, Option]] = {
    field.name.upper(): attrs.evolve(field.metadata[OPTION], key=field.name.upper())
    for field in attrs.fields(Settings)
    if OPTION in field.metadata
}
