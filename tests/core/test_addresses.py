# SPDX-License-Identifier: MIT
"""Tests for the syntax of mail addresses and their wire form."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.addresses import dedupe_key, domain_of, is_address, to_wire
from smtpmailer.errors import AddressError

_LABEL = "a" * 63
_LONG_DOMAIN = ".".join([_LABEL, _LABEL, _LABEL, "b" * 60])

_GOOD = {
    "user@example.org": "user@example.org",
    "User.Name+tag@EXAMPLE.Org": "User.Name+tag@example.org",
    "root@localhost": "root@localhost",
    "!#$%&'*+/=?^_`{|}~-@x": "!#$%&'*+/=?^_`{|}~-@x",
    '"a b"@x.org': '"a b"@x.org',
    '"a@b,\\" \\\\"@x.org': '"a@b,\\" \\\\"@x.org',
    '""@x.org': '""@x.org',
    "a@1.2.3.4": "a@1.2.3.4",
    "a@[192.0.2.1]": "a@[192.0.2.1]",
    "a@[ipv6:2001:DB8:0:0::1]": "a@[IPv6:2001:db8::1]",
    "a@xn--bcher-kva.example": "a@xn--bcher-kva.example",
    "a@B\u00fccher.Example": "a@xn--bcher-kva.example",
    "a@fa\u00df.de": "a@xn--fa-hia.de",
    "a@\u4f8b\u3048\u3002\u30c6\u30b9\u30c8": "a@xn--r8jz45g.xn--zckzah",
    "a@\uff45x.com": "a@ex.com",
    "J\u00fcrgen@example.org": "J\u00fcrgen@example.org",
    "\u7528\u6237@\u4f8b\u3048.jp": "\u7528\u6237@xn--r8jz45g.jp",
    "a" * 64 + "@x.org": "a" * 64 + "@x.org",
    "\u00e9" * 32 + "@x.org": "\u00e9" * 32 + "@x.org",
    f"a@{_LABEL}.org": f"a@{_LABEL}.org",
    f"a@{_LONG_DOMAIN}": f"a@{_LONG_DOMAIN}",
}

_BAD = {
    "": "has no @",
    "user": "has no @",
    "@": "nothing before",
    "@x.org": "nothing before",
    "a@": "nothing after",
    "a b@x.org": "needs quotes",
    " a@x.org": "needs quotes",
    ".a@x.org": "needs quotes",
    "a.@x.org": "needs quotes",
    "a..b@x.org": "needs quotes",
    "a@b@x.org": "needs quotes",
    '"a"b"@x.org': "needs quotes",
    '"\\\u00e9"@x.org': "needs quotes",
    "a\u3000b@x.org": "needs quotes",
    "<a@x.org>": "needs quotes",
    "a@x.org ": "no host name",
    "a@x.org.": "no host name",
    "a@.x.org": "no host name",
    "a@x..org": "no host name",
    "a@-x.org": "no host name",
    "a@x-.org": "no host name",
    "a@x_y.org": "no host name",
    "a@x.org>": "no host name",
    "a@b.xn--": "no host name",
    "a@i\u2764.ws": "no valid IDN",
    "a@b\uff20c.org": "no valid IDN",
    "a@\u00ad.com": "no valid IDN",
    "a@b\u3000c.org": "no valid IDN",
    "a@[x]": "bad address literal",
    "a@[]": "bad address literal",
    "a@[1.2.3.4": "bad address literal",
    "a@[1.2.3.256]": "bad address literal",
    "a@[::1]": "bad address literal",
    "a@[IPv6:1.2.3.4]": "bad address literal",
    "a@[IPv6:fe80::1%eth0]": "bad address literal",
    "a@[\u0131pv6:::1]": "bad address literal",
    "a" * 65 + "@x.org": "more than 64 octets before",
    "\u00e9" * 33 + "@x.org": "more than 64 octets before",
    "a@" + "b" * 256: "more than 255 octets after",
    f"a@{_LABEL}a.org": "label of more than 63",
    f"aa@{_LONG_DOMAIN}": "longer than 254 octets",
    "a\u00e9@" + _LONG_DOMAIN[:-1]: "longer than 254 octets",
}

_CONTROLS = "\0\t\n\r\x1b\x7f\u0085\u009b\u2028\u2029\u202e\u2066\ud800"


class WireTests(SynchronousTestCase):
    """What is accepted, and how it goes out."""

    def test_good_addresses_have_a_wire_form(self) -> None:
        for text, wire in _GOOD.items():
            self.assertTrue(is_address(text), text)
            self.assertEqual(to_wire(text), wire)

    def test_bad_addresses_are_refused_with_the_reason(self) -> None:
        for text, why in _BAD.items():
            self.assertFalse(is_address(text), text)
            error = self.assertRaises(AddressError, to_wire, text)
            self.assertIn(why, str(error), text)

    def test_control_characters_never_pass(self) -> None:
        for control in _CONTROLS:
            for text in (f"a{control}@x.org", f'"{control}"@x.org', f"a@x{control}.org"):
                error = self.assertRaises(AddressError, to_wire, text)
                self.assertIn(f"U+{ord(control):04X}", str(error))
        self.assertFalse(is_address("a@x.org\n"))

    def test_an_error_shows_the_address_escaped_and_cut(self) -> None:
        error = self.assertRaises(AddressError, to_wire, "\x1b[0m\r\n" + "a" * 5000)
        self.assertIn("\\x1b[0m\\r\\n", str(error))
        self.assertTrue(str(error).isprintable())
        self.assertLess(len(str(error)), 400)

    def test_huge_texts_are_judged_in_no_time(self) -> None:
        """No pattern backtracks, and idna never sees a long domain."""
        for text in ("a." * 500_000 + "@x", "a@" + "\u00fc." * 500_000, '"' + "\\a" * 500_000):
            self.assertFalse(is_address(text))

    def test_the_wire_form_is_its_own_wire_form(self) -> None:
        for wire in _GOOD.values():
            self.assertEqual(to_wire(wire), wire)

    @settings(deadline=None, max_examples=100, derandomize=True)
    @given(st.text(max_size=30), st.text(max_size=30))
    def test_no_text_breaks_it_or_a_line(self, local: str, domain: str) -> None:
        text = f"{local}@{domain}"
        if is_address(text):
            wire = to_wire(text)
            self.assertEqual(len(wire.splitlines()), 1)
            self.assertTrue(domain_of(text).isascii())
            wire.encode()


class ComparisonTests(SynchronousTestCase):
    """Which addresses are the same."""

    def test_domains_are_compared_without_case_and_script(self) -> None:
        self.assertEqual(dedupe_key("a@EXAMPLE.org"), dedupe_key("a@example.ORG"))
        self.assertEqual(dedupe_key("a@B\u00dcCHER.de"), dedupe_key("a@xn--bcher-kva.de"))

    def test_local_parts_are_compared_exactly(self) -> None:
        self.assertNotEqual(dedupe_key("A@example.org"), dedupe_key("a@example.org"))

    def test_the_domain_is_the_wire_form(self) -> None:
        self.assertEqual(domain_of('"a@b"@B\u00fccher.DE'), "xn--bcher-kva.de")
        self.assertRaises(AddressError, domain_of, "nobody")
