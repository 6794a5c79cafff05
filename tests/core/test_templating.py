# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.core.templating."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.templating import TemplateRules, fill, is_template_name, render
from smtpmailer.errors import MessageError, RequestInvalidError

_QUICK = settings(deadline=None, max_examples=100, derandomize=True)
_RULES = TemplateRules()

#: Texts made of tags, halves of tags, names, and what else is in texts.
_PIECES = st.lists(
    st.sampled_from(
        ["{", "{{", "}", "}}", "NAME", "b", "{{NAME}}", "{{b}}", " ", "\n", "ü😀", "<&>"]
    )
).map("".join)
_VALUES = st.dictionaries(st.sampled_from(["NAME", "b", "", "ü😀", " "]), _PIECES)
_TAGS = st.sampled_from([("{{", "}}"), ("%", "%"), ("##", "##"), ("[", "]"), ("<%", "%>")])


class Counted(str):
    """A text that counts the characters which searches in it pass."""

    __slots__ = ("passed",)
    passed: int

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.passed = 0
        return made

    def find(self, sub: str, start: Any = 0, end: Any = None) -> int:
        at = super().find(sub, start, end)
        self.passed += (len(self) if at < 0 else at) - start
        return at

    def rfind(self, sub: str, start: Any = 0, end: Any = None) -> int:
        at = super().rfind(sub, start, end)
        self.passed += (len(self) if end is None else end) - max(at, start)
        return at


def filled(template: str, values: Mapping[str, str], **rules: Any) -> str:
    """Fill a template."""
    return fill(template, values, TemplateRules(**rules)).text


class NameTests(SynchronousTestCase):
    """A template's name is a plain file name."""

    def test_plain_file_names_are_names(self) -> None:
        for name in (
            "a",
            "t1.html",
            "Grüße 2024.html",
            "-",
            "a.b.c",
            "a.",
            "~",
            "x" * 255,
            "é" * 127,
        ):
            self.assertTrue(is_template_name(name), name)

    def test_nothing_else_is(self) -> None:
        for name in (
            *("", ".", "..", ".hidden", "a..b", "../a", "a/..", "a/b", "/", "/etc/passwd", "a/"),
            *("a\\b", "..\\a", "a\0", "\0", "a\nb", "a\n", "\ta", "a\x7f", "a\x85b", "a\x9f"),
            *("x" * 256, "é" * 128, "\ud800", "a\udcff"),
        ):
            self.assertFalse(is_template_name(name), ascii(name))

    @_QUICK
    @given(st.text(max_size=300))
    def test_a_name_stays_in_its_directory(self, text: str) -> None:
        if is_template_name(text):
            raw = text.encode()
            self.assertLessEqual(len(raw), 255)
            self.assertFalse({0, *b"/\\\n"} & set(raw))
            self.assertFalse(text.startswith("."))


class FillTests(SynchronousTestCase):
    """Values take the place of the tags that name them."""

    def test_a_value_takes_the_place_of_each_tag_that_names_it(self) -> None:
        made = filled("{{A}} and {{B}}, {{A}}{{A}}", {"A": "x", "B": "y"})
        self.assertEqual(made, "x and y, xx")

    def test_a_tag_without_value_stays_as_it_is(self) -> None:
        for text in ("{{B}}", "{{ A }}", "{{a}}", "{{}}", "{{A", "A}}", "{A}", "{{A} }", "{{\nA}}"):
            self.assertEqual(filled(text, {"A": "x"}), text)

    def test_a_name_counts_exactly_as_it_is(self) -> None:
        values = {"": "1", " A ": "2", "a-b.c[0]": "3", "Grüße": "4", "\\1": "5"}
        made = filled("{{}}{{ A }}{{a-b.c[0]}}{{Grüße}}{{\\1}}", values)
        self.assertEqual(made, "12345")

    def test_openings_that_are_none_do_no_harm(self) -> None:
        for text, expected in (
            ("{{{A}}}", "{x}"),
            ("{{{{A}}}}", "{{x}}"),
            ("{{ {{A}} }}", "{{ x }}"),
            ("{{A {{A}}", "{{A x"),
            ("}}{{A}}{{", "}}x{{"),
            ("a { b: c } {{A}}", "a { b: c } x"),
        ):
            self.assertEqual(filled(text, {"A": "x"}), expected)

    def test_the_tags_can_be_others(self) -> None:
        for opening, closing in (("<%", "%>"), ("[", "]"), ("%", "%"), ("##", "##"), ("{{", "}")):
            text = f"100% {opening}A{closing} {{A}} 5 % 6 {opening}A{closing}"
            made = filled(text, {"A": "x"}, opening=opening, closing=closing)
            self.assertEqual(made, text.replace(f"{opening}A{closing}", "x"))

    def test_a_tag_is_never_empty(self) -> None:
        for tags in (("", "}}"), ("{{", "")):
            with self.assertRaises(ValueError):
                TemplateRules(opening=tags[0], closing=tags[1])

    def test_values_are_escaped_where_asked_for(self) -> None:
        values = {"A": '<b title="x">\'&amp;'}
        self.assertEqual(filled("<p>{{A}}", values), f"<p>{values['A']}")
        expected = "<p>&lt;b title=&quot;x&quot;&gt;&#x27;&amp;amp;"
        self.assertEqual(filled("<p>{{A}}", values, escape_html=True), expected)

    def test_the_result_is_limited(self) -> None:
        self.assertEqual(filled("{{A}}b{{A}}", {"A": "xy"}, limit=5), "xybxy")
        for text in ("{{A}}b{{A}}", "{{A}}bcde", "bcdef"):
            with self.assertRaises(MessageError) as caught:
                filled(text, {"A": "xy"}, limit=4)
            self.assertIn("4 characters", str(caught.exception))

    def test_a_bomb_does_not_go_off(self) -> None:
        with self.assertRaises(MessageError):
            filled("{{A}}" * 100_000, {"A": "x" * 1_000_000}, limit=10_000_000)

    @_QUICK
    @given(_PIECES, _TAGS)
    def test_without_values_nothing_changes(self, text: str, tags: tuple[str, str]) -> None:
        self.assertEqual(filled(text, {}, opening=tags[0], closing=tags[1]), text)

    @_QUICK
    @given(st.text(), st.dictionaries(st.text(), st.text()))
    def test_a_text_without_tags_never_changes(self, text: str, values: dict[str, str]) -> None:
        text = text.replace("{{", "")
        self.assertEqual(filled(text, values), text)

    @_QUICK
    @given(_PIECES, _VALUES)
    def test_what_a_value_holds_is_not_looked_at_again(
        self, text: str, values: dict[str, str]
    ) -> None:
        """With private characters for the values the result is the same, those put in after."""
        marks = {key: chr(0xE000 + number) for number, key in enumerate(values)}
        made = filled(text, marks)
        for key, mark in marks.items():
            made = made.replace(mark, values[key])
        self.assertEqual(filled(text, values), made)

    @_QUICK
    @given(_PIECES, st.sampled_from(["NAME", "b"]), _TAGS)
    def test_one_name_is_replaced_as_the_predecessor_did(
        self, text: str, key: str, tags: tuple[str, str]
    ) -> None:
        text = text.replace("{{", tags[0]).replace("}}", tags[1])
        expected = text.replace(f"{tags[0]}{key}{tags[1]}", "v")
        self.assertEqual(filled(text, {key: "v"}, opening=tags[0], closing=tags[1]), expected)

    def test_it_takes_linear_time(self) -> None:
        size = 10_000
        for text in (
            "{" * size,
            "}" * size,
            "{{" * size + "}}",
            "{{" + "}}" * size,
            "{{A}}" * size,
            "{{b}}" * size,
            "{{" * size + "}}" * size,
            "{{ {{b " * size,
            "{{A" * size + "}}",
            "x" * size,
        ):
            counted = Counted(text)
            fill(counted, {"A": "v"}, _RULES)
            self.assertLess(counted.passed, 5 * len(text) + 10, text[:9])


class StrictTests(SynchronousTestCase):
    """Tags and values have to fit together when that is asked for."""

    rules = TemplateRules(strict=True)

    def errors(self, template: str, values: Mapping[str, str]) -> list[str]:
        with self.assertRaises(RequestInvalidError) as caught:
            render(template, values, self.rules)
        errors: dict[str, list[str]] = caught.exception.errors
        self.assertEqual(list(errors), ["replaceContent"])
        return errors["replaceContent"]

    def test_what_fits_is_rendered(self) -> None:
        made = render("{{A}} { b } {{}} {{\n}} }} {{", {"A": "{{B}}"}, self.rules)
        self.assertEqual(made, "{{B}} { b } {{}} {{\n}} }} {{")

    def test_tags_without_value_are_named(self) -> None:
        missing = self.errors("{{B}} {{A}} {{ B }} {{B}} {{C}}", {"A": ""})
        self.assertEqual(missing, ["The required properties (B,  B , C) are missing"])

    def test_values_without_tag_are_named(self) -> None:
        unused = self.errors("{{A}}", {"D": "", "A": "{{D}}", "C": ""})
        self.assertEqual(unused, ["Additional object properties are not allowed: D, C"])

    def test_both_are_told_at_once(self) -> None:
        self.assertEqual(len(self.errors("{{A}}", {"B": ""})), 2)

    def test_so_many_names_are_told_at_most(self) -> None:
        text = "".join(f"{{{{{number}}}}}" for number in range(5000))
        values = {f"k{number}": "" for number in range(5000)}
        missing, unused = self.errors(text, values)
        self.assertEqual((missing.count(","), unused.count(",")), (99, 99))

    def test_otherwise_neither_is_an_error_and_both_are_told(self) -> None:
        self.assertEqual(render("{{A}}", {"B": ""}, _RULES), "{{A}}")
        told = fill("{{A}}", {"B": ""}, _RULES)
        self.assertEqual((told.missing, told.unused), (("A",), ("B",)))
