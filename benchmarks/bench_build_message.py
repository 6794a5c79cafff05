# SPDX-License-Identifier: MIT
"""How long it takes to build a 10 KB HTML mail: ours beside the standard library's EmailMessage.

Run it as ``python benchmarks/bench_build_message.py``. It prints the median of many rounds,
in microseconds, and their ratio; then the same for a mail with a file of 10 MB, in milliseconds.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from smtpmailer.core.mime import MessageOptions, Stamp, compose
from smtpmailer.core.model import (
    Address,
    Capabilities,
    FilePart,
    LoadedFile,
    MailRequest,
)

HTML = "<p>A line of an invoice, with a <b>number</b> or two in it.</p>\n" * 160
SENDER = Address(email="billing@example.com", name="Example Billing")
REQUEST = MailRequest(
    to=(Address(email="user@example.org", name="Some User"),), subject="Your invoice 2024-0815"
)
STAMP = Stamp(unique="0001700000000.12345678_0123456789abcdef", epoch_seconds=1.7e9)
EIGHT_BIT = Capabilities(eight_bit=True)


def ours(html: str, files: tuple[LoadedFile, ...] = ()) -> bytes:
    """Build with core.mime, to finished wire bytes."""
    mail = compose(
        REQUEST, body=html, sender=SENDER, files=files, stamp=STAMP, options=MessageOptions()
    )
    return mail.wire(EIGHT_BIT).data


def stdlib(html: str, attached: bytes | None = None) -> bytes:
    """Build with EmailMessage, to bytes with CRLF line ends (dots not yet stuffed)."""
    message = EmailMessage(policy=SMTP)
    message["Date"] = format_datetime(localtime())
    message["From"] = f"{SENDER.name} <{SENDER.email}>"
    message["To"] = f"{REQUEST.to[0].name} <{REQUEST.to[0].email}>"
    message["Subject"] = REQUEST.subject
    message["Message-ID"] = f"<{STAMP.unique}@example.com>"
    message.set_content(html, subtype="html", cte="8bit" if not html.isascii() else None)
    if attached is not None:
        message.add_attachment(attached, maintype="application", subtype="pdf", filename="a.pdf")
    return message.as_bytes()


def median(build: Callable[[], bytes], rounds: int) -> float:
    """Give the median time of one build in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        build()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def show(what: str, mine: float, theirs: float, unit: tuple[str, float]) -> None:
    """Print a line of results."""
    name, factor = unit
    print(
        f"{what:<28} ours {mine * factor:8.1f} {name}   EmailMessage {theirs * factor:8.1f} {name}"
        f"   ratio {theirs / mine:6.1f}"
    )


def main() -> None:
    """Measure and print."""
    for what, html in (
        ("10 KB HTML, ASCII", HTML),
        (
            "10 KB HTML, UTF-8, 8bit",
            HTML.replace("two", "zw\N{LATIN SMALL LETTER O WITH DIAERESIS}lf"),
        ),
    ):
        show(
            what,
            median(lambda html=html: ours(html), 2000),  # type: ignore[misc]
            median(lambda html=html: stdlib(html), 200),  # type: ignore[misc]
            ("us", 1e6),
        )
    content = os.urandom(10_000_000)
    file = LoadedFile(part=FilePart(path="/a.pdf", name="a.pdf"), content=content)
    show(
        "10 MB attachment",
        median(lambda: ours(HTML, (file,)), 7),
        median(lambda: stdlib(HTML, content), 3),
        ("ms", 1e3),
    )


if __name__ == "__main__":
    main()
