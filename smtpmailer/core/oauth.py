# SPDX-License-Identifier: MIT
"""OAuth 2.0: where access tokens come from, what is asked for them, and what the answer says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, urlencode, urlsplit

import attrs

from smtpmailer.errors import TokenError

__all__ = ["USUAL_LIFE", "OAuth2", "Token", "TokenGrant", "faults", "read_output"]

#: Seconds for which a token counts as good whose issuer does not say for how long it is.
USUAL_LIFE: Final = 300.0

#: No token lives longer (seconds), whatever is said: a year.
_LONGEST_LIFE: Final = 31_536_000.0
#: A token is printable ASCII without blanks (RFC 6750 section 2.1 allows fewer characters yet).
_FIRST, _LAST = "!", "~"
_ENCODED: Final = re.compile("%[0-9A-F]{2}")


@attrs.frozen(kw_only=True)
class OAuth2:
    """One source of access tokens: a token server, a file, or a command.

    A token server is asked with ``refresh_token`` where there is one (RFC 6749 section 6), else
    with the client's own credentials (section 4.4). ``token_file`` and ``token_command`` take the
    place of it all. ``ca_file`` adds trust to the system's store. Two sources are equal when they
    are configured alike, whatever tokens they have given so far.
    """

    token_endpoint: str = ""
    client_id: str = ""
    client_secret: str = attrs.field(default="", repr=False)
    scope: str = ""
    refresh_token: str = attrs.field(default="", repr=False)
    token_file: str = ""
    token_command: tuple[str, ...] = attrs.field(default=(), repr=False)
    ca_file: str = ""

    @property
    def name(self) -> str:
        """What a log calls it."""
        if self.token_file:
            return self.token_file
        if self.token_command:
            return self.token_command[0]
        return f"{urlsplit(self.token_endpoint).hostname}, client {self.client_id}"

    @property
    def told(self) -> str:
        """What clients hear it called: no path, and no program."""
        if self.token_file:
            return "the token file"
        if self.token_command:
            return "the token command"
        return f"the token server {urlsplit(self.token_endpoint).hostname}"


@attrs.frozen(kw_only=True)
class Token:
    """An access token; ``life`` is in seconds from when it was given."""

    text: str = attrs.field(repr=False)
    life: float = USUAL_LIFE


@attrs.frozen(kw_only=True)
class TokenGrant:
    """What a token server is to give tokens for; ``refresh_token`` may be newer than the source's.

    Each answer may bring another refresh token, which takes the old one's place.
    """

    source: OAuth2
    refresh_token: str = attrs.field(default="", repr=False)

    @classmethod
    def of(cls, source: OAuth2) -> TokenGrant:
        """Give the first one of a source."""
        return cls(source=source, refresh_token=source.refresh_token)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown, whatever a token server says; as it is, and as forms have it."""
        known = {self.source.client_secret, self.source.refresh_token, self.refresh_token}
        return tuple({form for secret in known if secret for form in _spellings(secret)})

    def form(self) -> bytes:
        """Give the body of the request (RFC 6749 sections 2.3.1, 4.4.2 and 6)."""
        source = self.source
        fields = {
            "grant_type": "refresh_token" if self.refresh_token else "client_credentials",
            "refresh_token": self.refresh_token,
            "client_id": source.client_id,
            "client_secret": source.client_secret,
            "scope": source.scope,
        }
        return urlencode({name: text for name, text in fields.items() if text}).encode("ascii")

    def read(self, status: int, body: bytes) -> tuple[Token, TokenGrant]:
        """Read the answer (RFC 6749 sections 5.1 and 5.2); give the token and the next grant.

        Raises TokenError, whose text may hold what the server said, secrets included.
        """
        answer = _json_object(body)
        if status != 200:  # noqa: PLR2004 - HTTP's
            raise TokenError(_refusal(status, answer))
        kind = answer.get("token_type", "Bearer")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            shown = _without_tokens(repr(kind), answer)
            raise TokenError(f"the token server gives tokens of the kind {shown}, not Bearer")
        token = _token(answer)
        renewed = answer.get("refresh_token")
        if self.refresh_token and isinstance(renewed, str) and renewed:
            return token, attrs.evolve(self, refresh_token=renewed)
        return token, self


def read_output(text: str) -> Token:
    """Read what a file or a command gives: a token alone, or a token server's JSON.

    Raises TokenError, without the text.
    """
    text = text.strip()
    if text.startswith("{"):
        return _token(_json_object(text.encode()))
    return Token(text=_checked(text))


def faults(source: OAuth2, word: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Give each fault of a source: the field, and what is wrong with it.

    ``word`` gives the name that users know a field by.
    """
    ways = [
        name for name in ("token_endpoint", "token_file", "token_command") if getattr(source, name)
    ]
    choice = " or ".join(map(word, ("token_endpoint", "token_file", "token_command")))
    if not ways:
        yield "token_endpoint", f"has to be set: tokens come from one of {choice}"
        return
    if len(ways) > 1:
        yield ways[1], f"can't be set beside {word(ways[0])}: tokens come from one of {choice}"
        return
    if ways[0] != "token_endpoint":
        for name in ("client_id", "client_secret", "scope", "refresh_token"):
            if getattr(source, name):
                yield name, f"goes with {word('token_endpoint')}, not with {word(ways[0])}"
        return
    if not _is_https(source.token_endpoint):
        yield (
            "token_endpoint",
            "has to be a URL such as https://login.example.com/token, without user and fragment",
        )
    if not source.client_id:
        yield "client_id", f"has to be set with {word('token_endpoint')}"
    if not (source.refresh_token or source.client_secret):
        yield (
            "refresh_token",
            f"has to be set, or {word('client_secret')} for tokens of the client itself",
        )


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    secure = parts.scheme == "https" and bool(parts.hostname) and port != 0
    return plain and secure and "@" not in parts.netloc and not parts.fragment


def _json_object(body: bytes) -> Mapping[str, Any]:
    """Read a JSON object; what is none is an empty one."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _spellings(secret: str) -> Iterator[str]:
    """Give a secret, and the ways in which a form or URL writes it."""
    yield secret
    for encoded in (quote_plus(secret), quote(secret), quote(secret, safe="")):
        yield encoded
        yield _ENCODED.sub(lambda match: match[0].lower(), encoded)


def _without_tokens(text: str, answer: Mapping[str, Any]) -> str:
    """Hide in a text from an answer the tokens that it brings, too."""
    for name in ("access_token", "refresh_token", "id_token"):
        token = answer.get(name)
        if isinstance(token, str) and token:
            for form in sorted(set(_spellings(token)), key=len, reverse=True):
                text = text.replace(form, "***")
    return text


def _refusal(status: int, answer: Mapping[str, Any]) -> str:
    said = [answer.get("error"), answer.get("error_description")]
    words = ": ".join(text for text in said if isinstance(text, str) and text)
    words = _without_tokens(words, answer)
    return f"the token server refuses (HTTP {status}): {words or 'it does not say why'}"


def _token(answer: Mapping[str, Any]) -> Token:
    text = answer.get("access_token")
    if not isinstance(text, str) or not text:
        raise TokenError("there is no access_token in what came as a token")
    life = answer.get("expires_in", USUAL_LIFE)
    try:
        # Some servers give it as a text.
        seconds = USUAL_LIFE if isinstance(life, bool) else float(life)
    except (OverflowError, TypeError, ValueError):
        seconds = USUAL_LIFE
    # A number that is none fails both comparisons.
    return Token(
        text=_checked(text),
        life=min(seconds, _LONGEST_LIFE) if seconds > 0 else USUAL_LIFE,
    )


def _checked(text: str) -> str:
    """Give a token that can go into a login; raises TokenError, without it."""
    if not text:
        raise TokenError("there is no token in it")
    if not all(_FIRST <= char <= _LAST for char in text):
        raise TokenError("what came as a token holds blanks or other characters that none has")
    return text
