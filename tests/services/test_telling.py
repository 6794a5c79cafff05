# SPDX-License-Identifier: MIT
"""What the log's lines on mails have in common."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.core.model import DeliveryResult, Outcome
from smtpmailer.services.telling import (
    attempt_fields,
    name_fields,
    put_off,
    recipient_domains,
    request_domains,
    said_yes,
    told_time,
    with_reply,
)
from tests.services.queueing import PARSER, mail, outcomes


def mixed() -> DeliveryResult:
    """Give a result of which one recipient has the mail and another has not."""
    first = outcomes(Outcome.DELIVERED, "a@one.example").outcomes
    second = outcomes(Outcome.TEMPORARY, "b@two.example", reason="SMTP Error: r")
    return DeliveryResult(
        outcomes=first + second.outcomes, reason=second.reason, server="s:587", seconds=0.12345
    )


class FieldTests(SynchronousTestCase):
    """Fields have the same names and meaning in every line."""

    def test_an_attempt_tells_of_the_first_who_lacks_the_mail(self) -> None:
        self.assertEqual(
            attempt_fields(mixed(), 3),
            {
                "domains": "one.example, two.example",
                "server": "s:587",
                "code": 450,
                "reply": "4.2.0 later",
                "attempt": 3,
                "seconds": 0.123,
                "reason": "SMTP Error: r",
            },
        )

    def test_where_all_have_it_the_servers_yes_is_told(self) -> None:
        result = outcomes(Outcome.DELIVERED, "a@one.example")
        fields = attempt_fields(result, 1)
        self.assertEqual((fields["code"], fields["reply"]), (250, "2.0.0 fine"))
        self.assertEqual(said_yes(result), "sent (250 2.0.0 fine)")

    def test_a_reply_that_a_text_does_not_have_is_added(self) -> None:
        self.assertEqual(with_reply("again", mixed()), "again (4.2.0 later)")
        self.assertEqual(with_reply("x: 4.2.0 later", mixed()), "x: 4.2.0 later")
        silent = outcomes(Outcome.UNCERTAIN, "a@one.example")
        self.assertEqual(with_reply("again", silent), "again")

    def test_partly_sent_is_told_from_put_off(self) -> None:
        self.assertEqual(put_off(mixed()), "partly sent")
        self.assertEqual(put_off(outcomes(Outcome.TEMPORARY, "a@x.example")), "put off")

    def test_an_id_is_that_of_the_name(self) -> None:
        for name in ("mail_1.2_ab.json", "1.2_ab"):
            self.assertEqual(name_fields(name), {"mail_id": "ab", "name": name})


class DomainTests(SynchronousTestCase):
    """Domains, not addresses."""

    def test_each_domain_is_named_once_in_order(self) -> None:
        found = recipient_domains(["a@B.example", "b@b.example", '"x@y"@c.example'])
        self.assertEqual(found, "b.example, c.example")

    def test_of_many_the_first_five_are_named(self) -> None:
        found = recipient_domains(f"a@d{number}.example" for number in range(9))
        names = "d0.example, d1.example, d2.example, d3.example, d4.example"
        self.assertEqual(found, f"{names}, and 4 more")

    def test_requests_and_mail_objects_give_the_same(self) -> None:
        fields = {"ccList": [["c@two.example", "C"]], "bccList": ["d@three.example"]}
        document = mail(to=["a@one.example"], **fields)
        expected = "one.example, two.example, three.example"
        self.assertEqual(request_domains(document), expected)
        self.assertEqual(request_domains(PARSER.parse(document)), expected)
        self.assertEqual(request_domains({}), "")


class TimeTests(SynchronousTestCase):
    """Times for people, in UTC."""

    def test_a_time_is_told_to_the_second(self) -> None:
        self.assertEqual(told_time(1_700_000_000.9), "2023-11-14T22:13:20Z")

    def test_an_absurd_time_is_told_as_a_number(self) -> None:
        self.assertEqual(told_time(1e30), f"{1e30:.0f} (Unix time)")
