# SPDX-License-Identifier: MIT
"""Hostile bytes: what is no request, or no JSON, or too much of either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.hostile.cases import Answer, Case, Holds, case, refused

__all__ = ["CASES", "DEPTH", "REQUEST_BYTES"]

#: The limits that the service of these tests has.
REQUEST_BYTES: Final = 2_000_000
DEPTH: Final = 64

_PONG: Final = Answer("success", None, "pong")
_EMPTY: Final = refused("payload cannot be empty")
_EMPTY_ENDS: Final = refused("payload cannot be empty")
_INVALID: Final = refused("invalid request")


def _malformed(why: str = "") -> Answer:
    return refused("invalid payload", Holds(f"malformed JSON at byte {why}"))


#: Input that can never become an object: told so, and closed.
_NO_OBJECTS: Final = {
    "null": b"null",
    "number": b"5",
    "negative number": b"-5",
    "text": b'"text"',
    "true": b"true",
    "garbage": b"garbage",
    "NUL": b"\0",
    "NULs": b"\0" * 1000,
    "0xff": b"\xff" * 10,
    "byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"ping":1}'.encode("utf-16"),
    "HTTP GET": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP POST": b'POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{"ping":1}',
    "SMTP": b"EHLO example.org\r\nMAIL FROM:<a@example.org>\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    "closing brace": b"}",
    "closing bracket": b"]",
    "comma": b",",
    "colon": b":",
    "quote": b'"',
    "backslash": b"\\",
    "comment": b'/* x */ {"ping":1}',
    "vertical tab": b'\x0b{"ping":1}',
    "no-break space": b'\xc2\xa0{"ping":1}',
    "endless garbage": b"A" * 1_000_000,
    "JSON lines of arrays' ends": b"]]]]\n" * 1000,
}

#: Brackets match, so the next request can be found, but it is no JSON.
_MALFORMED: Final = {
    "no value": b'{"ping":}',
    "no colon": b'{"ping" 1}',
    "no quotes": b"{ping:1}",
    "single quotes": b"{'ping':1}",
    "comma at the end": b'{"ping":1,}',
    "comma at the beginning": b'{,"ping":1}',
    "two commas": b'{"a":1,,"b":2}',
    "two colons": b'{"ping"::1}',
    "two values": b'{"ping":1 2}',
    "leading zero": b'{"ping":01}',
    "plus": b'{"ping":+1}',
    "no digit before the point": b'{"ping":.5}',
    "no digit behind the point": b'{"ping":5.}',
    "no exponent": b'{"ping":1e}',
    "NaN": b'{"ping":NaN}',
    "Infinity": b'{"ping":Infinity}',
    "-Infinity": b'{"ping":-Infinity}',
    "hexadecimal": b'{"ping":0x10}',
    "half a word": b'{"ping":tru}',
    "upper case word": b'{"ping":TRUE}',
    "beyond a double": b'{"ping":1e400}',
    "far beyond a double": b'{"ping":-1' + b"0" * 5000 + b"}",
    "control character in a text": b'{"ping":"\x01"}',
    "newline in a text": b'{"ping":"a\nb"}',
    "NUL in a text": b'{"ping":"\0"}',
    "NUL in a key": b'{"pi\0ng":1}',
    "unknown escape": b'{"ping":"\\q"}',
    "short escape": b'{"ping":"\\u12"}',
    "lone high surrogate": b'{"ping":"\\ud800"}',
    "lone low surrogate": b'{"ping":"\\udc00"}',
    "two high surrogates": b'{"ping":"\\ud800\\ud800"}',
    "surrogate in a key": b'{"\\udfff":1}',
    "surrogate in UTF-8": b'{"ping":"\xed\xa0\x80"}',
    "overlong UTF-8": b'{"ping":"\xc0\xaf"}',
    "overlong NUL": b'{"ping":"\xc0\x80"}',
    "beyond Unicode": b'{"ping":"\xf5\x80\x80\x80"}',
    "broken UTF-8": b'{"ping":"\xff"}',
    "half a character": b'{"ping":"\xe2\x82"}',
    "comment inside": b'{"ping":1/*x*/}',
    "number as a key": b"{1:1}",
    "array as a key": b"{[1]:1}",
    "brackets of nothing": b"[[],]",
}

#: Brackets don't match: nobody can say where the next request begins.
_UNMATCHED: Final = {
    "brace closed by a bracket": b'{"a":1]',
    "bracket closed by a brace": b"[1}",
    "inner ones crossed": b'{"a":[1}]',
    "control character outside texts": b'{"ping"\x01:1}',
    "NUL outside texts": b'{\0"ping":1}',
    "DEL outside texts": b'{"ping":1\x7f}',
}

#: What breaks off inside a request.
_TRUNCATED: Final = (
    b"{",
    b"[",
    b'{"ping"',
    b'{"ping":"',
    b'{"ping":"\\',
    b'{"ping":"\\"}',
    b'{"ping":{"a":[{}',
    b'{"sendMail":{"to":["a@example.org"],"subject":"' + b"x" * 100_000,
)

_FIRST_KEYS: Final = (
    "",
    " ping",
    "Ping",
    "PING",
    "ping ",
    "ping\\u0000",
    "ping\\nsendMail",
    "__class__",
    "__proto__",
    "handle",
    "_answer",
    "content",
    "id",
    "detail",
    "auth",
    "\\u202eping",
    "k" * 100_000,
)


def _cases() -> Iterator[Case]:
    for name, raw in _NO_OBJECTS.items():
        yield case(f"no object: {name}", raw, _EMPTY, closes=True)
    for name, raw in _MALFORMED.items():
        yield case(f"malformed: {name}", raw, _malformed())
    for name, raw in _UNMATCHED.items():
        yield case(f"unmatched: {name}", raw, _malformed(), closes=True)
    for raw in _TRUNCATED:
        fault = _malformed(f"{len(raw)}: unexpected end of input")
        yield case(f"truncated: {raw[:20]!r}", raw, fault, closes=True, half_closes=True)
    for key in _FIRST_KEYS:
        yield case(f"first key: {key[:20]}", f'{{"{key}":1}}', _INVALID)
    for raw in (b"{}", b"[]", b" \n{ }\n"):
        yield case(f"nothing: {raw!r}", raw, _EMPTY)
    for raw in (b"[1]", b"[[]]", b'[{"ping":1}]', b'["ping"]'):
        yield case(f"array: {raw!r}", raw, _INVALID)
    yield from _bombs()
    yield from _duplicates()


def _bombs() -> Iterator[Case]:
    deep = refused("invalid payload", f"request is nested deeper than {DEPTH} levels")
    for name, opening in (("arrays", b"["), ("objects", b'{"a":'), ("both", b'[{"a":')):
        yield case(f"bomb: 100,000 {name}", opening * 100_000, deep, closes=True)
    inner = DEPTH - 1
    fits = b'{"ping":' + b"[" * inner + b"]" * inner + b"}"
    yield case("bomb: just deep enough", fits, _PONG)
    more = b'{"ping":' + b"[" * DEPTH + b"]" * DEPTH + b"}"
    yield case("bomb: one level more", more, deep, closes=True)
    many = refused("invalid payload", "request holds more than 100000 values")
    for name, item in (
        ("lists", b"[],"),
        ("numbers", b"0,"),
        ("texts", b'"",'),
        ("objects", b"{},"),
    ):
        raw = b'{"ping":[' + item * 200_000
        yield case(f"bomb: 200,000 {name}", raw, many, closes=True)
    keys = b",".join(b'"%d":0' % i for i in range(120_000))
    yield case("bomb: 120,000 keys", b"{" + keys, many, closes=True)
    large = refused(
        "invalid payload",
        f"request is larger than {REQUEST_BYTES} bytes (MAILER_MAX_REQUEST_SIZE)",
    )
    yield case("bomb: large text", b'{"ping":"' + b"x" * (REQUEST_BYTES + 1), large, closes=True)
    yield case("bomb: blanks", b"{" + b" " * (REQUEST_BYTES + 1), large, closes=True)
    digits = b'{"ping":[1' + b"0" * 200 + b"]}"
    yield case("huge number: within a double", digits, _PONG)
    yield case("huge number: tiny", b'{"ping":1e-400}', _PONG)
    yield case("huge number: beyond 64 bits", b'{"ping":18446744073709551616}', _PONG)


def _duplicates() -> Iterator[Case]:
    wrong = refused("invalid payload", Holds("The data (integer) must match the type: object"))
    yield case("twice: ping", b'{"ping":1,"ping":2}', _PONG)
    yield case("twice: the last value counts", b'{"sendMail":{},"sendMail":5}', wrong)
    yield case("twice: in the first one's place", b'{"sendMail":{},"ping":1,"sendMail":5}', wrong)
    yield case("twice: 5,000 times", b"{" + b'"ping":1,' * 5000 + b'"ping":1}', _PONG)
    yield case(
        "two objects, the second too much closed", b'{"ping":1}}', _PONG, _EMPTY, closes=True
    )
    yield case("garbage behind a request", b'{"ping":1}x{"ping":1}', _PONG, _EMPTY, closes=True)


CASES: Final = tuple(_cases())
