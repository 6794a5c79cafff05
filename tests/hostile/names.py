# SPDX-License-Identifier: MIT
"""Hostile names of templates and of queued mails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tests.hostile.cases import ANY, Case, case, refused, request

__all__ = ["CASES"]

_TRAVERSALS: Final = (
    "../../outside/secret.html",
    "..",
    ".",
    "",
    "/etc/passwd",
    "a/../../outside/secret.html",
    "a\\..\\secret.html",
    ".hidden.html",
    "name\0.html",
    "name\n.html",
    "name\x1b[2J",
    "x" * 256,
    "é" * 128,
    "..%2f..%2foutside",
    "~root",
)
#: In the service's template directory, and never to be followed or read.
_PLANTED: Final = ("link-out.html", "fifo.html", "directory.html", "loop.html", "latin1.html")

#: Odd, but plain file names.
_FINE: Final = {
    ("addTemplate", "..%2f..%2foutside"),
    ("addTemplate", "~root"),
    ("updateTemplate", "latin1.html"),
}

_QUEUE_NAMES: Final = (
    "../../outside/secret.html",
    "..",
    "",
    "/etc/passwd",
    "mail_1.1_a.json/../../../outside/secret.html",
    "../mail/mail_1.1_a.json",
    "mail_1.1_a.json\n",
    "mail_1.1_a.json\0",
    "mail_1.1_a.json.bak",
    "mail_-1.1_a.json",
    "mail_1.1_A.json",
    "mail_\u0661.1_a.json",
    "mail_" + "1" * 300 + ".1_a.json",
    ".smtpmailer",
    ".tmp-1",
    # There, and never to be followed or read.
    "mail_0000000000000000001.00000001_0000000000000001.json",
    "mail_0000000000000000001.00000002_0000000000000002.json",
)

_TEMPLATE_REQUESTS: Final = {
    "getTemplate": "unable to get template",
    "addTemplate": "unable to add template",
    "updateTemplate": "unable to update template",
    "removeTemplate": "unable to remove template",
}
_QUEUE_REQUESTS: Final = {
    "getQueuedMail": "unable to get queued mail",
    "updateQueuedMail": "unable to update queued mail",
    "getFailedMail": "unable to get failed mail",
    "retryFailedMail": "unable to retry failed mail",
}
_NO_TEXTS: Final[tuple[Any, ...]] = (None, 5, True, [], ["a"], {}, {"a": "b"}, 1.5)


def _templates() -> Iterator[Case]:
    for name in (*_TRAVERSALS, *_PLANTED):
        for what, message in _TEMPLATE_REQUESTS.items():
            # What was planted may be removed: a link is not followed by that.
            if (what, name) in _FINE or (what == "removeTemplate" and name in _PLANTED):
                continue
            sent = request(what, name, content="harmless")
            data = ANY if what == "addTemplate" else None
            yield case(f"{what} {name[:60]!r}", sent, refused(message, data))


def _mails() -> Iterator[Case]:
    for name in _QUEUE_NAMES:
        for what, message in _QUEUE_REQUESTS.items():
            sent = request(what, name, content={"subject": "x"})
            yield case(f"{what} {name[:60]!r}", sent, refused(message))
    for what in ("removeQueuedMail", "removeFailedMail"):
        for name in _QUEUE_NAMES[:-2]:
            expected = refused("invalid filepath string")
            yield case(f"{what} {name[:60]!r}", request(what, name), expected)


def _ids() -> Iterator[Case]:
    for text in _TRAVERSALS:
        expected = refused("invalid payload", "invalid mail id")
        yield case(f"getMailHistory {text[:60]!r}", request("getMailHistory", text), expected)


def _types() -> Iterator[Case]:
    for what in (*_TEMPLATE_REQUESTS, *_QUEUE_REQUESTS, "getMailHistory"):
        for value in _NO_TEXTS:
            sent = request(what, value, content={"subject": "x"})
            yield case(f"{what} {value!r}", sent, refused("invalid payload", ANY))
    for what in ("addTemplate", "updateTemplate"):
        for content in _NO_TEXTS:
            sent = request(what, "fine.html", content=content)
            expected = refused("invalid payload", "invalid file path string or missing content")
            yield case(f"{what} with content {content!r}", sent, expected)


CASES: Final = (*_templates(), *_mails(), *_ids(), *_types())
