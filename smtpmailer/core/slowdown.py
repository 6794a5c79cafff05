# SPDX-License-Identifier: MIT
"""Which answers of a server mean that it wants less mail from this account.

RFC 5321 section 4.2.3 has no code for that, so servers use what is near. What counts:

    code            enhanced code      about one recipient (RCPT)   about session or mail
    421             any, or none       yes                          yes
    432             any but 4.7.12     yes                          yes
    454             any, or none       by its words                 yes
    450, 451, 452   4.1.x, 4.2.x       no                           no
                    4.3.0 to 2, 4.3.5  yes                          yes
                    4.4.5              yes                          yes
                    4.4.x              no                           yes
                    4.5.x, 4.6.x       no                           no
                    4.7.x              by its words                 yes
                    4.0.x, or none     by its words                 yes

421 is "service not available, closing transmission channel" (RFC 5321); 454 a temporary failure of
TLS (RFC 3207 section 4.1) or login (RFC 4954 section 6), and how Amazon SES says "throttling
failure"; 432 is "a password transition is needed" (RFC 4954 section 6, always 4.7.12), which goes
away with nothing that we do slower, and with 4.3.2 how Exchange says "concurrent connections limit
exceeded". In RFC 3463 section 3 x.1 is about addresses, x.2 about one mailbox (full, off; Postgrey
says 4.2.0), x.3 about the mail system (3.1 full, 3.2 not accepting messages, 3.5 misconfigured; but
3.3 and 3.4 are about what the message needs and its size), x.4 about network and routing (4.5 is
congestion; about a recipient the others concern the way to his domain), x.5 about commands (5.3
too many recipients: the mail has to be split), x.6 about content, x.7 about policy.

About a recipient 454 and 4.7.x are also how relays refuse one ("relay access denied", "recipient
address rejected"), whom any client may name: only words tell that from too much mail. Addresses
are no words: clients choose them.

Greylisting asks to come again, not to come less; it is known by its words.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["asks_for_less"]

_ALWAYS: Final = frozenset({421, 432})
_TLS_OR_LOGIN: Final = 454
_PERHAPS: Final = frozenset({450, 451, 452})
#: Subjects that say too little of an answer about a recipient.
_BY_WORDS: Final = frozenset({"0", "7"})
#: Of 432 only.
_TRANSITION: Final = "4.7.12"
#: Of RFC 3463's subjects and details; what begins with these is about the system, not the mail.
_SYSTEM: Final = ("4.3.0", "4.3.1", "4.3.2", "4.3.5")
_CONGESTION: Final = "4.4.5"
_GREYLIST: Final = re.compile(r"gr[ea]y[\s-]?list", re.IGNORECASE)
_WORDS: Final = re.compile(
    r"throttl|slow(?:ing)? down|too (?:fast|quickly|frequent)|rate[\s-]?limit|(?:sending|submission"
    r"|message) (?:rate|limit)|too many (?:connections|messages|mails|e-?mails|sessions|requests"
    r"|recipients from)|too much mail|rate (?:was |is |has been )?exceeded|unusual rate"
    r"|(?:hourly|daily) limit|(?:server|system) (?:is )?(?:too )?busy",
    re.IGNORECASE,
)


def asks_for_less(code: int, enhanced: str, text: str, *, about_recipient: bool) -> bool:
    """Whether an answer asks for less mail.

    ``enhanced`` is its RFC 3463 code or empty, ``text`` what it says besides. ``about_recipient``:
    it is the answer to RCPT.
    """
    text = _without_addresses(text)
    if _GREYLIST.search(text):
        return False
    if code in _ALWAYS:
        return enhanced != _TRANSITION
    if code != _TLS_OR_LOGIN and code not in _PERHAPS:
        return False
    subject = enhanced.split(".")[1] if enhanced else "0"
    if code == _TLS_OR_LOGIN or subject in _BY_WORDS:
        return not about_recipient or _WORDS.search(text) is not None
    if subject == "3":
        return enhanced in _SYSTEM
    if subject == "4":
        return not about_recipient or enhanced == _CONGESTION
    return False


def _without_addresses(text: str) -> str:
    """Leave out words with @, and all between the first < and the last >."""
    begin, end = text.find("<"), text.rfind(">")
    if 0 <= begin < end:
        text = f"{text[:begin]} {text[end + 1 :]}"
    return " ".join([word for word in text.split() if "@" not in word])
