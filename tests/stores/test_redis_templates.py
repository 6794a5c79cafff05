# SPDX-License-Identifier: MIT
"""Tests for the templates in Redis: the contract, and the predecessor's layout byte by byte."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from smtpmailer.errors import (
    BadTemplateError,
    NoSuchTemplateError,
    RedisAwayError,
    RedisRefusedError,
    TemplateExistsError,
)
from smtpmailer.interfaces import ITemplateStore
from smtpmailer.stores.redis_templates import RedisTemplateStore
from tests.stores.redis_case import PREFIX, RedisTestCase
from tests.stores.template_contract import LIMIT, NO_NAMES, TemplateContract

_INDEX = f"{PREFIX}index:template"


class _Case(RedisTestCase):
    """A store on a server of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.start_server()
        self.link = self.start_link(self.server)
        self.store: ITemplateStore = RedisTemplateStore(self.link, PREFIX, limit_bytes=LIMIT)


class RedisContractTests(TemplateContract, _Case):
    """The store in Redis."""


class LayoutTests(_Case):
    """What lies in Redis is what the predecessor reads and deletes."""

    def leave(self, name: str, *, member: bool = True, value: str | None = None) -> None:
        """Leave in Redis what the predecessor may leave of a template."""
        if member:
            self.server.call("ZADD", _INDEX, 0, f'"{name}"')
        if value is not None:
            self.server.call("SET", f"{PREFIX}template:{name}", value)

    def names(self) -> tuple[str, ...]:
        """List the templates."""
        names: tuple[str, ...] = self.wait(self.store.page(500, 0)).names
        return names

    def all_fail(self, error: type[Exception], *asked: Deferred[Any]) -> None:
        """See to it that all fail with this error."""
        for each in asked:
            self.failureResultOf(each, error)

    def test_texts_and_index_are_written_as_the_predecessor_does(self) -> None:
        self.wait(self.store.add("t1.html", "<html>{{NAME}} é</html>"))
        self.wait(self.store.add("é <1>.html", ""))
        text = rb'"\u003Chtml\u003E{{NAME}} \u00e9\u003C\/html\u003E"'
        self.assertEqual(
            self.server.dump(),
            {
                f"{PREFIX}template:t1.html": text,
                f"{PREFIX}template:é <1>.html": b'""',
                _INDEX: [rb'"\u00e9 \u003C1\u003E.html"', b"0", b'"t1.html"', b"0"],
            },
        )

    def test_its_templates_are_read_whatever_way_their_json_is_written(self) -> None:
        for value in (r'"<p>\/é"', '"<p>/\\u00e9"', '"\\u003Cp\\u003E/é"'):
            self.leave("a", value=value)
            self.assertEqual(self.wait(self.store.get("a")), "<p>/é")
        self.assertEqual(self.names(), ("a",))

    def test_a_name_that_stands_in_the_index_alone_is_no_template(self) -> None:
        self.leave("gone")
        self.leave("there", value='"x"')
        page = self.wait(self.store.page(500, 0))
        self.assertEqual((page.names, page.total), (("there",), 1))
        self.all_fail(
            NoSuchTemplateError,
            self.store.get("gone"),
            self.store.update("gone", "x"),
            self.store.remove("gone"),
        )
        self.leave("gone")
        self.wait(self.store.add("gone", "new"))
        self.assertEqual(self.names(), ("gone", "there"))

    def test_removing_takes_such_a_name_out_of_the_index(self) -> None:
        self.leave("gone")
        self.all_fail(NoSuchTemplateError, self.store.remove("gone"))
        self.assertEqual(self.server.dump(), {})

    def test_clearing_leaves_nothing_and_counts_what_was_a_template(self) -> None:
        self.leave("gone")
        self.leave("there", value='"x"')
        self.server.call("ZADD", _INDEX, 0, "no json", 0, '"../passwd"', 0, "5")
        self.assertEqual(self.wait(self.store.clear()), 1)
        self.assertEqual(self.server.dump(), {})

    def test_what_is_no_name_in_the_index_is_passed_over(self) -> None:
        self.leave("there", value='"x"')
        self.server.call("ZADD", _INDEX, 0, "no json", 0, '"../passwd"', 0, "5", 0, b"\xff")
        self.server.call("SET", f"{PREFIX}template:../passwd", '"x"')
        self.assertEqual(self.names(), ("there",))

    def test_a_template_outside_of_the_index_can_be_read_and_an_update_lists_it(self) -> None:
        self.leave("a", member=False, value='"x"')
        self.assertEqual((self.wait(self.store.get("a")), self.names()), ("x", ()))
        self.all_fail(TemplateExistsError, self.store.add("a", "y"))
        self.wait(self.store.update("a", "y"))
        self.assertEqual((self.wait(self.store.get("a")), self.names()), ("y", ("a",)))

    def test_what_is_no_text_in_json_is_a_bad_template(self) -> None:
        for value in ("plain", "5", '["x"]', "", b"\xff", '"half', r'"\ud800"', f'"{"x" * 1001}"'):
            self.server.call("SET", f"{PREFIX}template:a", value)
            self.all_fail(BadTemplateError, self.store.get("a"))
        self.wait(self.store.update("a", "well"))
        self.assertEqual(self.wait(self.store.get("a")), "well")

    def test_keys_of_other_kinds_are_refused_by_redis(self) -> None:
        self.server.call("LPUSH", f"{PREFIX}template:a", "x")
        self.server.call("SET", _INDEX, "x")
        self.all_fail(RedisRefusedError, self.store.get("a"), self.store.page(1, 0))

    def test_what_is_no_name_never_reaches_redis(self) -> None:
        self.wait(self.link.stop())
        for name in NO_NAMES:
            self.all_fail(NoSuchTemplateError, self.store.get(name), self.store.add(name, "x"))

    def test_all_fail_while_redis_is_away(self) -> None:
        self.wait(self.store.add("a", "x"))
        self.server.kill()
        self.until("Redis is away", lambda: not self.link.state().up)
        self.all_fail(
            RedisAwayError,
            self.store.page(1, 0),
            self.store.get("a"),
            self.store.add("b", "x"),
            self.store.update("a", "x"),
            self.store.remove("a"),
            self.store.clear(),
        )

    def test_two_prefixes_do_not_see_each_other(self) -> None:
        other = RedisTemplateStore(self.link, "{other}:", limit_bytes=LIMIT)
        self.wait(self.store.add("a", "x"))
        self.all_fail(NoSuchTemplateError, other.get("a"))
        self.assertEqual(self.wait(other.clear()), 0)
        self.assertEqual(self.names(), ("a",))

    def test_of_many_who_add_the_same_name_one_wins(self) -> None:
        other = RedisTemplateStore(self.start_link(self.server), PREFIX, limit_bytes=LIMIT)
        won: list[str] = []
        lost: list[object] = []
        for number in range(20):
            store, text = (self.store, other)[number % 2], str(number)
            added = store.add("a", text)
            added.addCallbacks(lambda _, text=text: won.append(text), lost.append)
        self.until("all are over", lambda: len(won) + len(lost) == 20)
        self.assertEqual([self.wait(self.store.get("a"))], won)
