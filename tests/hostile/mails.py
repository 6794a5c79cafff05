# SPDX-License-Identifier: MIT
"""Hostile mail objects: injection in every field, wrong types, too much, files of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.hostile.cases import Case, Holds, case, refused, request

__all__ = ["CASES", "SECRET", "mail"]

#: A password that a request carries; no answer and no log line may hold it.
SECRET: Final = "request-s3cret"

_INJECTED: Final = "X-Injected: yes"
#: How each field is given a text, and where a fault of it is told.
_FIELDS: Final[dict[str, tuple[Callable[[str], dict[str, Any]], str]]] = {
    "to": (lambda text: {"to": [text]}, "to->0"),
    "to's name": (lambda text: {"to": [["a@example.org", text]]}, "to->0->1"),
    "to with a name": (lambda text: {"to": [[text, "A"]]}, "to->0->0"),
    "ccList": (lambda text: {"ccList": [text]}, "ccList->0"),
    "ccList's name": (lambda text: {"ccList": [["a@example.org", text]]}, "ccList->0->1"),
    "bccList": (lambda text: {"bccList": [text]}, "bccList->0"),
    "bccList's name": (lambda text: {"bccList": [["a@example.org", text]]}, "bccList->0->1"),
    "replyTo": (lambda text: {"replyTo": [text]}, "replyTo->0"),
    "replyTo's name": (lambda text: {"replyTo": [["a@example.org", text]]}, "replyTo->0->1"),
    "subject": (lambda text: {"subject": text}, "subject"),
    "fromEmail": (lambda text: {"fromEmail": text}, "fromEmail"),
    "fromName": (lambda text: {"fromName": text}, "fromName"),
    "attachment's path": (lambda text: {"attachments": [[text]]}, "attachments->0->0"),
    "attachment's name": (lambda text: {"attachments": [["a.txt", text]]}, "attachments->0->1"),
    "embedded path": (lambda text: {"embedded": [[text, "c"]]}, "embedded->0->0"),
    "cid": (lambda text: {"embedded": [["a.txt", text]]}, "embedded->0->1"),
    "embedded name": (lambda text: {"embedded": [["a.txt", "c", text]]}, "embedded->0->2"),
    "smtpHost": (lambda text: {"smtpHost": text}, "smtpHost"),
    "smtpUser": (lambda text: {"smtpUser": text}, "smtpUser"),
    "smtpPassword": (lambda text: {"smtpPassword": text}, "smtpPassword"),
    "useTemplate": (lambda text: {"useTemplate": text, "body": None}, "useTemplate"),
}
_BREAKS: Final = {"CR LF": "\r\n", "LF": "\n", "CR": "\r", "NUL": "\0"}

#: Fields with a value that their rule forbids, and a part of what is said about it.
_WRONG: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"to": None}, "The data (null) must match the type: array"),
    ({"to": "a@example.org"}, "The data (string) must match the type: array"),
    ({"to": {"a": 1}}, "The data (object) must match the type: array"),
    ({"to": [5]}, "to->0"),
    ({"to": [[]]}, "to->0"),
    ({"to": [["a@example.org"]]}, "Array should have at least 2 items"),
    ({"to": [["a@example.org", "A", "B"]]}, "Array should have at most 2 items"),
    ({"to": [[["a@example.org"]]]}, "to->0"),
    ({"to": ["no address"]}, "must match the 'email' format"),
    ({"to": ["a@example.org, b@example.org"]}, "must match the 'email' format"),
    ({"to": ["a@example.org>\u0020RCPT TO:<b@example.org"]}, "must match the 'email' format"),
    ({"to": ["<a@example.org>"]}, "must match the 'email' format"),
    ({"to": ["a@" + "x" * 5000 + ".org"]}, "must match the 'email' format"),
    ({"to": ["a@" + "é." * 2000 + "org"]}, "must match the 'email' format"),
    ({"to": ["a@exa\u2028mple.org"]}, "must match the 'email' format"),
    ({"to": ["@example.org:a@example.net"]}, "must match the 'email' format"),
    ({"to": [f"u{i}@example.org" for i in range(101)]}, "at most 100 recipients"),
    ({"bccList": [f"u{i}@example.org" for i in range(100)]}, "101 found"),
    ({"replyTo": ["a@example.org"] * 1001}, "at most 1000 items, 1001 found"),
    ({"attachments": [["a.txt"]] * 1001}, "at most 1000 items, 1001 found"),
    ({"attachments": "a.txt"}, "The data (string) must match the type: array"),
    ({"attachments": ["a.txt"]}, "attachments->0"),
    ({"attachments": [["a.txt", "b", "c"]]}, "Array should have at most 2 items"),
    ({"attachments": [[""]]}, "Minimum string length is 1, found 0"),
    ({"attachments": [["x" * 4097]]}, "Maximum string length is 4096, found 4097"),
    ({"embedded": [["a.txt"]]}, "Array should have at least 2 items"),
    ({"subject": ""}, "Minimum string length is 1, found 0"),
    ({"subject": "x" * 4097}, "Maximum string length is 4096, found 4097"),
    ({"subject": ["x"]}, "The data (array) must match the type: string"),
    ({"body": 5}, "The data (integer) must match the type: string"),
    ({"body": ""}, "Minimum string length is 1, found 0"),
    ({"useTemplate": "t.html"}, "match exactly one schema"),
    ({"replaceContent": {"a": {"b": 1}}}, "replaceContent->a"),
    ({"replaceContent": {"a": []}}, "replaceContent->a"),
    ({"replaceContent": []}, "The data (array) must match the type: object"),
    ({"fromEmail": "me"}, "must match the 'email' format"),
    ({"fromName": "x" * 4097}, "Maximum string length is 4096, found 4097"),
    ({"smtpHost": "http://example.org/"}, "must match the 'hostname' format"),
    ({"smtpHost": "example.org:25"}, "must match the 'hostname' format"),
    ({"smtpHost": "exa mple.org"}, "must match the 'hostname' format"),
    ({"smtpHost": "fe80::1%eth0"}, "must match the 'hostname' format"),
    ({"smtpPassword": "x" * 4097}, "Maximum string length is 4096, found 4097"),
    ({"smtpPassword": 5}, "The data (integer) must match the type: string"),
    ({"smtpEncryption": "TLS1.0"}, "match one item from enum"),
    ({"smtpPort": 0}, "Number must be greater than or equal to 1"),
    ({"smtpPort": 65536}, "Number must be lower than or equal to 65535"),
    ({"smtpPort": "25"}, "The data (string) must match the type: integer"),
    ({"smtpPort": 1e300}, "Number must be lower than or equal to 65535"),
    ({"smtpPort": 25.5}, "The data (number) must match the type: integer"),
    ({"smtpPort": True}, "The data (boolean) must match the type: integer"),
    ({"timeout": 0}, "Number must be greater than or equal to 1"),
    ({"timeout": 2**63}, "Number must be lower than or equal to"),
    ({"scheduleTime": -1}, "Number must be greater than or equal to 0"),
    ({"scheduleTime": 253402300800}, "Number must be lower than or equal to"),
    ({"failToDelivered": -5}, "Number must be greater than or equal to 0"),
    ({"__proto__": {}}, "Additional object properties are not allowed: __proto__"),
    ({"x\r\ny": 1}, "Additional object properties are not allowed"),
    ({"smtpEncryptPassword": "x"}, "Additional object properties are not allowed"),
    ({f"k{i}": 1 for i in range(5000)}, "k99, ..."),
)

#: Paths that lead to what is nobody's to attach, and why it is not.
_FILES: Final = {
    "/etc/passwd": "lies outside ATTACHMENT_DIRS",
    "../outside/secret.html": "lies outside ATTACHMENT_DIRS",
    "sub/../../outside/secret.html": "lies outside ATTACHMENT_DIRS",
    "link-out": "lies outside ATTACHMENT_DIRS",
    "link-directory/secret.html": "lies outside ATTACHMENT_DIRS",
    "link-env": "lies outside ATTACHMENT_DIRS",
    "../.env": "lies outside ATTACHMENT_DIRS",
    "../Queue/mail": "lies outside ATTACHMENT_DIRS",
    "/proc/self/environ": "lies outside ATTACHMENT_DIRS",
    "/dev/zero": "lies outside ATTACHMENT_DIRS",
    "/dev/stdin": "lies outside ATTACHMENT_DIRS",
    "hard-env": "one of the service's own files",
    "fifo": "is not a regular file",
    "socket": "is not a regular file",
    ".": "is a directory",
    "sub": "is a directory",
    "loop": "is not a regular file",
    "missing": "no such file",
    "a.txt/x": "no such file",
    "x" * 300: "name is too long",
    "large": "exceed MAIL_MAX_SIZE",
}


def mail(**fields: Any) -> dict[str, Any]:
    """Give a mail object; a field that is None is left out."""
    whole = {
        "to": ["user@example.org"],
        "ccList": [],
        "bccList": [],
        "subject": "x",
        "body": "x",
        "smtpPassword": SECRET,
        **fields,
    }
    return {key: value for key, value in whole.items() if value is not None or key == "to"}


def _cases() -> Iterator[Case]:
    for field, (give, path) in _FIELDS.items():
        for name, broken in _BREAKS.items():
            text = f"a@example.org{broken}{_INJECTED}"
            sent = request("sendMail", mail(**give(text)))
            told = Holds(f'"{path}": ["The data must not contain CR, LF or NUL')
            if "->" in path and not path.startswith(("attachments", "embedded")):
                told = Holds("The data must not contain CR, LF or NUL")
            yield case(f"{name} in {field}", sent, refused("invalid payload", told))
    for what in ("sendMail", "queueMail"):
        for fields, words in _WRONG:
            sent = request(what, mail(**fields))
            name = f"{what}: {str(fields)[:120]}"
            yield case(name, sent, refused("invalid payload", Holds(words)))
    for what, message in (
        ("sendMail", "failed to send mail"),
        ("queueMail", "failed to add mail to queue"),
    ):
        for path, why in _FILES.items():
            for fields in ({"attachments": [[path]]}, {"embedded": [[path, "cid"]]}):
                sent = request(what, mail(**fields))
                name = f"{what}: {next(iter(fields))} {path[:40]}"
                yield case(name, sent, refused(message, Holds(why)))
    yield from _others()


def _others() -> Iterator[Case]:
    nobody = refused("invalid payload", "To/CC/BCC must have at least one recipient")
    yield case("nobody", request("sendMail", mail(to=[])), nobody)
    values: tuple[Any, ...] = (None, 5, True, [], "", "text", 1e300)
    for value in values:
        sent = request("sendMail", value)
        yield case(f"no mail: {value!r}", sent, refused("invalid payload", Holds("payload")))
    for name in ("../../outside/secret.html", "/etc/passwd", "..", "link-out.html", "fifo.html"):
        sent = request("sendMail", mail(body=None, useTemplate=name))
        expected = refused("failed to send mail", f"template not found: {name}")
        yield case(f"useTemplate {name}", sent, expected)
    # A message of more than MAIL_MAX_SIZE, once it is encoded.
    large = request("sendMail", mail(body="é" * 600_000))
    yield case("large message", large, refused("failed to send mail", Holds("MAIL_MAX_SIZE")))


CASES: Final = tuple(_cases())
