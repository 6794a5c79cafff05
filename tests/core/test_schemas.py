# SPDX-License-Identifier: MIT
"""Tests of core.schemas: the verdict is the standard's, the wording the API's."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.schemas import FORMATS, Schema, _walk, is_host, type_name
from smtpmailer.schemafiles import load_schema

_ADDRESS = "user@example.test"
_MAIL: dict[str, Any] = {
    "to": [_ADDRESS],
    "ccList": [],
    "bccList": [["b@example.test", "Bé"]],
    "subject": "s",
    "body": "b",
}
_SCHEMAS = {name: load_schema(name) for name in ("sendMail", "updateQueuedMail")}
_SEND = Schema(_SCHEMAS["sendMail"])
_UPDATE = Schema(_SCHEMAS["updateQueuedMail"])

#: Changes of a valid mail, and every fault they cause.
_FAULTS: tuple[tuple[dict[str, Any], dict[str, list[str]]], ...] = (
    ({"smtpPort": 0}, {"smtpPort": ["Number must be greater than or equal to 1"]}),
    ({"smtpPort": 65536}, {"smtpPort": ["Number must be lower than or equal to 65535"]}),
    ({"timeout": 0}, {"timeout": ["Number must be greater than or equal to 1"]}),
    ({"timeout": True}, {"timeout": ["The data (boolean) must match the type: integer"]}),
    ({"scheduleTime": -1}, {"scheduleTime": ["Number must be greater than or equal to 0"]}),
    (
        {"scheduleTime": 253402300800},
        {"scheduleTime": ["Number must be lower than or equal to 253402300799"]},
    ),
    ({"smtpEncryption": "TLS"}, {"smtpEncryption": ["The data should match one item from enum"]}),
    ({"smtpHost": "a b"}, {"smtpHost": ["The data must match the 'hostname' format"]}),
    ({"useTemplate": "t"}, {"payload": ["The data should match exactly one schema"]}),
    (
        {"attachments": [["/a", "b", "c"]]},
        {"attachments->0": ["Array should have at most 2 items, 3 found"]},
    ),
    ({"replyTo": {}}, {"replyTo": ["The data (object) must match the type: array"]}),
    (
        {"foo": 1, "bar": 2},
        {"payload": ["Additional object properties are not allowed: foo, bar"]},
    ),
    (
        {"replaceContent": {"A": "x", "B": {}}},
        {
            "replaceContent->B": [
                "The data (object) must match the type: string, number, boolean, null"
            ]
        },
    ),
    (
        {"subject": "a\r\nBcc: x"},
        {"subject": ["The data must not contain CR, LF or NUL: CR at character 2"]},
    ),
    (
        {"to": [["a@b.test", "N\nX"]]},
        {
            "to->0->1": ["The data must not contain CR, LF or NUL: LF at character 2"],
            "to->0": ["The data (array) must match the type: string"],
        },
    ),
    (
        {"to": ["a@b.test\n"]},
        {
            "to->0": [
                "The data (string) must match the type: array",
                "The data must not contain CR, LF or NUL: LF at character 9",
            ]
        },
    ),
    (
        {"attachments": [["/a\0b"]], "embedded": [["/a", "c\r", "n\n"]]},
        {
            "attachments->0->0": ["The data must not contain CR, LF or NUL: NUL at character 3"],
            "embedded->0->1": ["The data must not contain CR, LF or NUL: CR at character 2"],
            "embedded->0->2": ["The data must not contain CR, LF or NUL: LF at character 2"],
        },
    ),
)


def _without(*names: str) -> dict[str, Any]:
    return {key: value for key, value in _MAIL.items() if key not in names}


class FaultTests(SynchronousTestCase):
    """What is wrong is said as the predecessor said it."""

    def test_a_valid_mail_has_none(self) -> None:
        full: dict[str, Any] = {
            **_MAIL,
            "replyTo": [_ADDRESS],
            "attachments": [["/a"], ["/a", "b"]],
            "embedded": [["/a", "c"], ["/a", "c", "n"]],
            "replaceContent": {"A": "x", "B": 1, "C": 1.5, "D": False, "E": None},
            "fromEmail": _ADDRESS,
            "fromName": "N",
            "smtpHost": "2001:db8::1",
            "smtpUser": "u",
            "smtpPassword": "",
            "smtpEncryption": "none",
            "smtpPort": 2525,
            "timeout": 5.0,
            "scheduleTime": 253402300799,
            "failToDelivered": 0,
        }
        self.assertEqual(_SEND.faults(full), {})
        self.assertEqual(list(_walk(_SEND._schema, full, ())), [])

    def test_each_fault_is_worded_with_its_path(self) -> None:
        for change, expected in _FAULTS:
            self.assertEqual(_SEND.faults({**_MAIL, **change}), expected)

    def test_faults_come_in_order(self) -> None:
        change = {"to": [["bad", "N"]], "subject": "", "ccList": [5]}
        self.assertEqual(
            list(_SEND.faults({**_MAIL, **change})), ["to->0->0", "to->0", "ccList->0", "subject"]
        )

    def test_missing_properties_are_named_before_anything_else(self) -> None:
        expected = "The required properties (to, ccList, bccList, subject) are missing"
        self.assertEqual(_SEND.faults({}), {"payload": [expected]})
        self.assertEqual(
            _SEND.faults({"to": 5, "ccList": [], "subject": "s", "x": 1}),
            {"payload": ["The required properties (bccList) are missing"]},
        )

    def test_a_mail_with_neither_body_nor_template_is_told_so(self) -> None:
        expected = {"payload": ["The data should match exactly one schema"]}
        self.assertEqual(_SEND.faults(_without("body")), expected)

    def test_unknown_fields_are_told_only_when_the_known_ones_are_right(self) -> None:
        faults = _SEND.faults({**_MAIL, "subject": "", "foo": 1})
        self.assertEqual(list(faults), ["subject"])

    def test_no_more_than_a_hundred_faults_and_names_are_shown(self) -> None:
        faults = _SEND.faults({**_MAIL, "attachments": [[]] * 10_000})
        self.assertEqual(len(faults), 100)
        faults = _SEND.faults({**_MAIL, **{f"x{i}": 1 for i in range(10_000)}})
        (message,) = faults["payload"]
        self.assertTrue(message.endswith("x98, x99, ..."))

    def test_an_update_needs_one_field_and_requires_none(self) -> None:
        self.assertEqual(_UPDATE.faults({"subject": "n"}), {})
        self.assertEqual(
            _UPDATE.faults({}),
            {"payload": ["Object must have at least 1 properties, 0 found"]},
        )

    def test_an_update_can_not_name_two_sources_of_the_text(self) -> None:
        self.assertEqual(
            _UPDATE.faults({"body": "b", "useTemplate": "t"}),
            {"payload": ["Only one of these is allowed: body, useTemplate"]},
        )
        self.assertEqual(list(_UPDATE.faults({"body": "b", "smtpPort": 0})), ["smtpPort"])
        self.assertEqual(list(_walk(_UPDATE._schema, {"body": "b"}, ())), [])


class AgreementTests(SynchronousTestCase):
    """The quick validator, the walker and the reference implementation agree."""

    def test_our_schemas_are_schemas(self) -> None:
        for schema in _SCHEMAS.values():
            jsonschema.Draft202012Validator.check_schema(schema)

    def test_both_schemas_describe_the_same_fields(self) -> None:
        send, update = _SCHEMAS["sendMail"], _SCHEMAS["updateQueuedMail"]
        for part in ("properties", "$defs"):
            self.assertEqual(send[part], update[part])

    @given(st.data())
    @settings(deadline=None, max_examples=100, derandomize=True)
    def test_the_verdict_is_the_reference_implementation_s(self, data: st.DataObject) -> None:
        checker = jsonschema.FormatChecker(formats=())
        for name, check in FORMATS.items():
            checker.checks(name)(lambda v, c=check: not isinstance(v, str) or c(v))
        reference = jsonschema.Draft202012Validator(_SCHEMAS["sendMail"], format_checker=checker)
        line = st.sampled_from(["", "a", _ADDRESS, "a\nb", "tls", "bad@"])
        leaf = st.none() | st.booleans() | st.sampled_from([0, 1, 1.5, 2.0, -1, 1e300]) | line
        item = st.lists(leaf, max_size=3) | leaf
        value = st.lists(item, max_size=2) | st.dictionaries(line, leaf, max_size=2) | leaf
        names = st.sampled_from([*_SCHEMAS["sendMail"]["properties"], "x"])
        mail = data.draw(
            st.dictionaries(names, value, max_size=3).map(lambda change: {**_MAIL, **change})
        )
        valid = reference.is_valid(mail)
        self.assertEqual(_SEND.faults(mail) == {}, valid, mail)
        self.assertEqual(list(_walk(_SEND._schema, mail, ())) == [], valid, mail)


class NameTests(SynchronousTestCase):
    """Types and hosts."""

    def test_types_have_the_api_s_names(self) -> None:
        names = ("null", "boolean", "integer", "integer", "number", "string", "array", "object")
        values: tuple[Any, ...] = (None, True, 5, 5.0, 1.5, "", [], {})
        self.assertEqual(tuple(map(type_name, values)), names)

    def test_hosts_are_names_and_addresses(self) -> None:
        for good in ("localhost", "mail.example.test", "127.0.0.1", "::1", "a" * 63, "1a"):
            self.assertTrue(is_host(good), good)
        for bad in ("", "-a", "a-", "a..b", "a.", "a_b", "a" * 64, "é", "fe80::1%x", "a\n"):
            self.assertFalse(is_host(bad), bad)
        self.assertFalse(is_host(".".join(["a" * 60] * 5)))
