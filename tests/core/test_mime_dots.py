# SPDX-License-Identifier: MIT
"""Dots of whole messages: what is told of them is what a look at every line tells."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.mime import ENCODINGS, MessageOptions
from smtpmailer.core.model import Address, Capabilities, FilePart, LoadedFile
from smtpmailer.errors import MessageError
from tests.messages import CASES, MessageCase, unstuff

OLD = Capabilities()
UTF8 = Capabilities(eight_bit=True, smtputf8=True)

_PLAIN = (
    "\r",
    "\n",
    "\r\n",
    ".",
    "..",
    "\n.",
    "a",
    " ",
    "=",
    "\0",
    "\u00fc",
    "\u20ac",
    "\U0001f389",
)
_LONG = ("x" * 75, "x" * 997, "x" * 998, "\u00fc" * 499)
#: Texts of what counts on the wire: line ends of all kinds, dots beside them, lines of 998 octets.
_TEXTS = st.lists(st.sampled_from(_PLAIN + _LONG), max_size=12).map("".join)


def stuff(message: bytes) -> bytes:
    """Stuff a message line by line (RFC 5321 section 4.5.2)."""
    lines = message.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


class DotTests(SynchronousTestCase):
    """Only the text is stuffed: no other part of a message has a line that begins with a dot."""

    def check(self, case: MessageCase) -> None:
        """Compare a message's dots with a look at every line."""
        mail = case.compose()
        for capabilities in (UTF8,) if case.smtputf8 else (OLD, UTF8):
            wire = mail.wire(capabilities)
            message = unstuff(wire.data)
            self.assertEqual(wire.data, stuff(message), case.name)
            self.assertEqual(wire.plain(), message, case.name)
            self.assertEqual(wire.dots, len(wire.data) - len(message), case.name)
            self.assertEqual(wire.size, len(message), case.name)

    def test_every_message_of_the_table_tells_its_dots(self) -> None:
        for case in CASES:
            self.check(case)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(
        _TEXTS,
        st.sampled_from(ENCODINGS),
        st.lists(st.sampled_from((None, ".cid")), max_size=3),
        st.sampled_from((".", "..", "Hello.", "\u00fc.", "." * 70, ". " * 70)),
    )
    def test_any_text_beside_any_files_tells_its_dots(
        self, body: str, encoding: str, cids: list[str | None], dotted: str
    ) -> None:
        files = [
            LoadedFile(
                part=FilePart(path=f"/x/{dotted}", name=dotted, content_id=cid),
                content=b".\r\n" * 40,
            )
            for cid in cids
        ]
        self.check(
            MessageCase(
                name="",
                subject=dotted,
                to=(Address(email="a.b@x.org", name=dotted),),
                body=body,
                files=tuple(files),
                options=MessageOptions(encoding=encoding),
            )
        )

    def test_the_largest_size_is_that_without_them(self) -> None:
        case = MessageCase(name="", body=".\r\n" * 10)
        size = case.compose().wire(OLD).size
        attrs.evolve(case, options=MessageOptions(max_bytes=size)).compose()
        small = attrs.evolve(case, options=MessageOptions(max_bytes=size - 1))
        self.assertIn(f"{size} bytes", str(self.assertRaises(MessageError, small.compose)))
