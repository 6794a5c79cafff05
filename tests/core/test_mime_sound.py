# SPDX-License-Identifier: MIT
"""What is told of a mail without building it holds when it is built."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.mime import MessageOptions, is_sound
from smtpmailer.core.model import Address, FilePart, LoadedFile
from smtpmailer.errors import ClientError, NoRecipientError
from tests.messages import MessageCase

_NAMES = st.text(max_size=210) | st.just("x" * 1000) | st.just("\ud800")
_EMAILS = st.sampled_from(("a@x.org", "b@\u00fc.example", "nobody", "a b@x.org", '"q"@[192.0.2.1]'))
_PEOPLE = st.lists(st.builds(Address, email=_EMAILS, name=_NAMES), max_size=2).map(tuple)
_LIMITS = st.sampled_from((0, 300, 2000, 5000, 20_000))


def sound(case: MessageCase) -> bool:
    return is_sound(case.request, sender=case.sender, options=case.options)


class SoundTests(SynchronousTestCase):
    """``is_sound`` never promises what ``compose`` does not keep."""

    @settings(deadline=None, max_examples=300, derandomize=True)
    @given(
        st.builds(
            MessageCase,
            name=st.just(""),
            to=_PEOPLE,
            cc=_PEOPLE,
            bcc=_PEOPLE,
            reply_to=_PEOPLE,
            sender=st.builds(Address, email=_EMAILS, name=_NAMES),
            subject=_NAMES,
            body=st.text(max_size=400) | st.just("\r" * 2000) | st.just("\ud800"),
            options=st.builds(
                MessageOptions,
                encoding=st.sampled_from(("8bit", "base64", "quoted-printable")),
                max_bytes=_LIMITS,
            ),
        )
    )
    def test_a_sound_mail_can_be_built(self, case: MessageCase) -> None:
        try:
            case.compose()
        except (ClientError, NoRecipientError):
            self.assertFalse(sound(case))

    def test_usual_mails_are_sound(self) -> None:
        """Else nobody would be served faster."""
        for case in (
            MessageCase(name=""),
            MessageCase(name="", body="\u00fc" * 10_000, options=MessageOptions(max_bytes=10**6)),
            MessageCase(name="", body="\u00fc\u20ac\U0001f389"),
            MessageCase(name="", to=(Address(email="a@\u00fc.example", name="J\u00fcrgen"),)),
        ):
            self.assertTrue(sound(case))

    def test_files_have_to_be_tried(self) -> None:
        part = FilePart(path="/a", name="a\n")
        case = MessageCase(name="", files=(LoadedFile(part=part, content=b""),))
        self.assertFalse(sound(case))
        inline = attrs.evolve(part, content_id="a b>")
        case = MessageCase(name="", files=(LoadedFile(part=inline, content=b""),))
        self.assertFalse(sound(case))

    def test_a_mail_near_the_limit_has_to_be_tried(self) -> None:
        limit = MessageOptions(max_bytes=20_000)
        self.assertTrue(sound(MessageCase(name="", body="x" * 100, options=limit)))
        self.assertFalse(sound(MessageCase(name="", body="x" * 2000, options=limit)))

    def test_a_mail_for_nobody_is_not_sound(self) -> None:
        people = (Address(email="a@x.org"),)
        self.assertFalse(sound(MessageCase(name="", to=(), reply_to=people)))

    def test_half_a_surrogate_pair_is_not_sound(self) -> None:
        for body in ("\ud800", "\u00fc\udfff", "\u20ac\ud800"):
            self.assertFalse(sound(MessageCase(name="", body=body)))
        self.assertFalse(sound(MessageCase(name="", subject="\ud800")))
