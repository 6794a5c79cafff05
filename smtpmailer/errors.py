# SPDX-License-Identifier: MIT
"""Every exception smtpmailer raises, in one tree.

The first level says who can mend it: the client, the operator, the remote server, or we ourselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AddressError",
    "AttachmentError",
    "BadDocumentError",
    "BadTemplateError",
    "BusyError",
    "CipherError",
    "ClientError",
    "ControlError",
    "CronError",
    "EnvFileError",
    "FramingError",
    "LimitError",
    "MailExistsError",
    "MailGoneOnError",
    "MessageError",
    "NoRecipientError",
    "NoSuchMailError",
    "NoSuchTemplateError",
    "NotAllowedError",
    "OperatorError",
    "RedisAwayError",
    "RedisError",
    "RedisRefusedError",
    "RedisUnreplicatedError",
    "RemoteError",
    "RequestInvalidError",
    "ServiceAnswerError",
    "ServiceProtocolError",
    "ServiceUnreachableError",
    "SettingsError",
    "SmtpConnectError",
    "SmtpLoginError",
    "SmtpLostError",
    "SmtpMailerError",
    "SmtpProtocolError",
    "SmtpRefusedError",
    "SmtpTokenRefusedError",
    "StoreError",
    "TemplateExistsError",
    "TemplatesOffError",
    "ThreadsStoppedError",
    "TlsConfigError",
    "TokenError",
    "UnknownAccountError",
]


class SmtpMailerError(Exception):
    """Root of the tree; never raised itself."""


class ThreadsStoppedError(SmtpMailerError):
    """Work was refused because the service is stopping; ask again after its next start."""

    def __init__(self) -> None:
        """Word it."""
        super().__init__("the service is stopping and takes no more work")


class ClientError(SmtpMailerError):
    """The request has to change; the same request will fail again."""


class OperatorError(SmtpMailerError):
    """The configuration or the machine has to change."""


class ControlError(OperatorError):
    """Another process of the service can't be asked, did not answer, or refused."""


class AddressError(ClientError):
    """A text is no mail address (RFC 5321 section 4.1.2, RFC 6531)."""


class MessageError(ClientError):
    """A message can't be built from this request; the text says why."""


class BadDocumentError(ClientError):
    """A whole document is not valid JSON; ``offset`` counts bytes from its start."""

    def __init__(self, offset: int, why: str) -> None:
        """Keep where and why."""
        super().__init__(f"malformed JSON at byte {offset}: {why}")
        self.offset = offset
        self.why = why


class FramingError(ClientError):
    """The byte stream can't be cut into documents any further; the connection has to end.

    ``empty`` is true when the input can never become a JSON object.
    """

    def __init__(self, text: str, *, empty: bool = False) -> None:
        """Keep the text for the answer's ``data``."""
        super().__init__(text)
        self.empty = empty


class LimitError(ClientError):
    """A client passed a limit of the protocol; its connection has to end.

    The text is the answer's ``data`` and names the limit, ``message`` is the answer's.
    """

    def __init__(self, text: str, message: str) -> None:
        """Keep both texts of the answer."""
        super().__init__(text)
        self.message = message


class BusyError(ClientError):
    """Too much of this is under way; later it may work."""


class NotAllowedError(ClientError):
    """The limits of the client's key forbid this; the text is for the log, not for the client."""


class NoRecipientError(ClientError):
    """A mail names nobody in to, ccList and bccList together; the text is the answer's data."""

    def __init__(self) -> None:
        """Word it as the API does."""
        super().__init__("To/CC/BCC must have at least one recipient")


class RequestInvalidError(ClientError):
    """A payload breaks its schema; ``errors`` maps ``a->0->b`` paths to messages."""

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        """Keep the errors in the order in which they are to be shown."""
        super().__init__("; ".join(f"{path}: {', '.join(texts)}" for path, texts in errors.items()))
        self.errors: dict[str, list[str]] = {path: list(texts) for path, texts in errors.items()}


class AttachmentError(ClientError):
    """A file can't be attached; ``path`` is the name as the client wrote it."""

    def __init__(self, path: str, why: str) -> None:
        """Keep the name and the reason."""
        super().__init__(f"could not attach {path}: {why}")
        self.path = path
        self.why = why


class CronError(OperatorError):
    """A text is no crontab time, or one that never comes."""


class EnvFileError(OperatorError):
    """An env file can't be read or parsed."""


class SettingsError(OperatorError):
    """Settings are invalid; ``faults`` names every one, a line each, never a secret."""

    def __init__(self, faults: Sequence[str]) -> None:
        """Keep all faults."""
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class TlsConfigError(OperatorError):
    """A certificate, key or trust file can't be used; the text names file and setting."""


class UnknownAccountError(OperatorError):
    """A mail that waits names an account which is not there any more; ``name`` is the account."""

    def __init__(self, name: str) -> None:
        """Word it, with the setting concerned."""
        super().__init__(f"there is no account {name!r} in SMTP_ACCOUNTS_FILE (any more)")
        self.name = name


class ServiceAnswerError(ClientError):
    """The service answered a request with an error; ``answer`` is the whole answer."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """Keep the answer; its message and data make the text."""
        message, data = answer.get("message"), answer.get("data")
        super().__init__(str(message) if data is None else f"{message}: {data}")
        self.answer = dict(answer)


class ServiceUnreachableError(OperatorError):
    """No answer of the service could be had: no connection, TLS refused, lost, or too slow.

    ``maybe_done`` is true when the request had been written, in part or whole: it may have been
    carried out although nothing came back.
    """

    def __init__(self, where: str, why: str, *, maybe_done: bool = False) -> None:
        """Keep where (``host:port``) and why."""
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why
        self.maybe_done = maybe_done


class ServiceProtocolError(OperatorError):
    """What answers at the service's address does not speak its protocol."""


class RemoteError(SmtpMailerError):
    """An SMTP server, or the way to it, failed; the text is clean and holds no secret.

    ``code`` is the reply's (0 without one), ``enhanced`` its RFC 3463 code or empty. ``dialogue``
    is what was said (see ``core.dialogue``) on a session that ended before it was ready, and
    ``at_login`` whether it ended at the login (AUTH).
    """

    at_login: bool = False
    dialogue: tuple[str, ...] = ()

    def __init__(self, text: str, *, code: int = 0, enhanced: str = "") -> None:
        """Keep the text and the reply's codes."""
        super().__init__(text)
        self.code = code
        self.enhanced = enhanced


class SmtpConnectError(RemoteError):
    """No connection or TLS session came about; the operator or the network has to change."""


class SmtpLoginError(RemoteError):
    """The server refused the login, or offers none that can be used; the operator's to mend."""


class SmtpTokenRefusedError(SmtpLoginError):
    """The server refused a login with an access token; with another one it may not."""


class SmtpLostError(RemoteError):
    """The connection ended, or a wait took too long, in the middle of the dialogue."""


class SmtpProtocolError(RemoteError):
    """The server said something that SMTP does not allow."""


class SmtpRefusedError(RemoteError):
    """The server refused ``stage`` of the dialogue; the text is its reply without the code."""

    def __init__(self, stage: str, text: str, *, code: int, enhanced: str = "") -> None:
        """Keep what was refused."""
        super().__init__(text, code=code, enhanced=enhanced)
        self.stage = stage


class TokenError(SmtpMailerError):
    """No OAuth 2.0 access token could be had, or what came is none; the text says why.

    ``told`` is what clients of the API hear of it, where that is less.
    """

    def __init__(self, text: str, *, told: str = "") -> None:
        """Keep both."""
        super().__init__(text)
        self.told = told or text


class CipherError(OperatorError):
    """What a queue holds can't be decrypted."""


class StoreError(OperatorError):
    """A store can't do its work now: a disk is full, gone or read-only, a server is away."""


class MailExistsError(StoreError):
    """Another mail has that name."""

    def __init__(self, name: str) -> None:
        """Word it."""
        super().__init__(f"there is another mail {name} already")


class MailGoneOnError(StoreError):
    """A mail was put, yet not durably, and could not be taken back: it may be on its way."""

    def __init__(self, name: str, why: str) -> None:
        """Keep why it was to be taken back."""
        super().__init__(f"{why}; {name} may be queued all the same, as it can't be taken back")


class RedisError(StoreError):
    """Redis can't do what was asked of it."""


class RedisAwayError(RedisError):
    """There is no connection to Redis, or no answer came in time.

    When ``sent`` is false the command certainly had no effect; otherwise nobody knows.
    """

    def __init__(self, text: str, *, sent: bool) -> None:
        """Keep whether the command was on its way."""
        super().__init__(text)
        self.sent = sent


class RedisUnreplicatedError(RedisAwayError):
    """A command took effect, but too few replicas are known to have it (REDIS_WAIT_REPLICAS)."""

    def __init__(self, why: str) -> None:
        """Keep why."""
        super().__init__(f"Redis: {why} (REDIS_WAIT_REPLICAS)", sent=True)


class RedisRefusedError(RedisError):
    """Redis answered with an error; ``code`` is its first word, such as NOPERM or OOM."""

    def __init__(self, words: str) -> None:
        """Keep Redis's words."""
        super().__init__(f"Redis refused: {words}")
        self.code = words.partition(" ")[0]


class NoSuchMailError(ClientError):
    """No mail of that name waits there (any more)."""


class NoSuchTemplateError(ClientError):
    """There is no template of that name, or the name can't be one; the text is for answers."""

    def __init__(self, name: str) -> None:
        """Word it."""
        super().__init__(f"template not found: {name[:255]}")
        self.name = name


class TemplateExistsError(ClientError):
    """There is something of that name already; the text is the answer's data."""

    def __init__(self) -> None:
        """Word it as the API does."""
        super().__init__("file already exists")


class BadTemplateError(ClientError):
    """A template can't be used or kept: it is not UTF-8, or too large."""

    def __init__(self, name: str, why: str) -> None:
        """Keep the name and the reason."""
        super().__init__(f"template {name}: {why}")
        self.name = name
        self.why = why


class TemplatesOffError(ClientError):
    """A mail wants a template, and the template service is off; the text is the answer's."""

    def __init__(self) -> None:
        """Word it as the API does."""
        super().__init__("template service is not enabled")
