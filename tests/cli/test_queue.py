# SPDX-License-Identifier: MIT
"""Tests of the queue subcommands, against the service on stores in memory."""

from __future__ import annotations

import json
import time
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.cli.main import main
from smtpmailer.cli.tables import ago, local_time
from smtpmailer.core.model import Outcome
from smtpmailer.core.names import due_of
from smtpmailer.core.queued import Settlement
from smtpmailer.core.queuestate import FRESH, MailState
from smtpmailer.core.retry import Moment, after_attempt
from smtpmailer.dispatcher import Gates
from tests.integration.scripted import ScriptedService, answering
from tests.services.dispatching import ask, make_dispatcher
from tests.services.queueing import NOW, QueueCase, mail, outcomes

_GONE = "mail_0000000000000000001.1_a.json"


class _CommandCase(QueueCase):
    """Runs commands against a service in a thread."""

    def setUp(self) -> None:
        super().setUp()
        self.dispatcher = make_dispatcher(self)
        self.seen: list[dict[str, Any]] = []
        service = ScriptedService(answering(self.answer, self.seen))
        service.__enter__()
        self.addCleanup(service.__exit__)
        self.port = service.port
        self.own()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer as the service would."""
        return ask(self, self.dispatcher, request)

    def run_command(self, *arguments: str, text: str = "") -> Result:
        """Run ``smtpmailer queue`` with these."""
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        return CliRunner().invoke(main, ["queue", *arguments, *where], input=text)

    def output(self, *arguments: str, text: str = "") -> str:
        """Run a command that works; gives its standard output."""
        result = self.run_command(*arguments, text=text)
        self.assertEqual(result.exit_code, 0, result.output)
        return result.stdout

    def failed_once(self) -> MailState:
        """Give the state after a temporary failure."""
        result = outcomes(Outcome.TEMPORARY, "user@example.test")
        moment = Moment(now=NOW, accepted_at=NOW, jitter=0.5)
        return after_attempt(FRESH, 0, result, self.policy, moment).state

    def bury(self, **fields: Any) -> str:
        """Make a dead letter."""
        name = self.put(**fields)
        claimed = self.successResultOf(self.store.claim(NOW, 10))
        for each in claimed:
            dead = "refused for good" if each.name == name else ""
            settlement = Settlement(at=NOW, state=self.failed_once() if dead else FRESH, dead=dead)
            self.successResultOf(self.store.settle(each.name, settlement))
        return name

    def dead(self) -> list[str]:
        return list(self.successResultOf(self.letters.page_failed(500, 0)).names)


class ListTests(_CommandCase):
    """Tables of names."""

    def test_a_table_of_names_and_times(self) -> None:
        names = [self.put(due=NOW + 60), self.put(due=NOW + 120)]
        head, *lines = self.output("list").splitlines()
        self.assertEqual(head.split(), ["NAME", "DUE"])
        self.assertEqual([line.split()[0] for line in lines], names)
        shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW + 60))
        self.assertTrue(lines[0].endswith(shown), lines[0])

    def test_the_long_table_shows_what_the_mails_are(self) -> None:
        self.put(self.failed_once(), to=["a@example.test", ["b@example.test", "B"]], subject="Hi")
        self.put(MailState(held="in doubt"), ccList=[], subject="Held")
        _, first, second = self.output("list", "--long").splitlines()
        self.assertIn("a@example.test +1", first)
        self.assertTrue(first.endswith("Hi"), first)
        self.assertIn("  1  ", first)
        self.assertIn("  held", second)

    def test_pages_say_what_of_the_whole_they_are(self) -> None:
        names = [self.put() for _ in range(5)]
        result = self.run_command("list", "--limit", "2", "--page", "1")
        self.assertEqual([line.split()[0] for line in result.stdout.splitlines()[1:]], names[2:4])
        self.assertIn("3 to 4 of 5", result.stderr)
        self.assertNotIn(" of ", self.run_command("list").stderr)
        beyond = self.run_command("list", "--limit", "2", "--page", "9")
        self.assertEqual((beyond.stdout, beyond.stderr), ("", "none here; 5 in all\n"))

    def test_an_empty_queue_prints_no_table(self) -> None:
        for command in (["list"], ["list", "--long"], ["failed", "list"]):
            self.assertEqual(self.output(*command), "")

    def test_json_is_the_services_answer(self) -> None:
        name = self.put()
        answer = json.loads(self.output("list", "--json", "--limit", "7"))
        self.assertEqual(answer["data"], {"items": [name], "total": 1})
        self.assertEqual(self.seen, [{"getQueueList": {"limit": 7, "page": 0}}])

    def test_wrong_numbers_are_wrong_usage(self) -> None:
        for option in (["--limit", "501"], ["--limit", "0"], ["--page", "-1"]):
            self.assertEqual(self.run_command("list", *option).exit_code, 2)
        self.assertEqual(self.seen, [])

    def test_dead_letters_are_listed_likewise(self) -> None:
        name = self.bury(subject="Hi")
        self.assertEqual(self.output("failed", "list"), f"NAME\n{name}\n")
        _, line = self.output("failed", "list", "-l").splitlines()
        self.assertTrue(line.endswith("user@example.test  Hi       refused for good"), line)

    def test_a_mail_that_is_gone_meanwhile_keeps_its_line(self) -> None:
        name = self.put()
        self.successResultOf(self.memory.remove(name))
        self.successResultOf(self.memory.put(name, "bm90IG91cnM=", FRESH))
        _, line = self.output("list", "-l").splitlines()
        self.assertIn("can't be read", line)
        self.flushLoggedErrors()

    def test_what_a_terminal_would_obey_is_not_printed(self) -> None:
        self.put(subject="\x1b[31mred")
        self.assertNotIn("\x1b", self.output("list", "-l"))


class ShowTests(_CommandCase):
    """One mail, for people."""

    def test_headers_attempts_and_text(self) -> None:
        name = self.put(
            self.failed_once(),
            to=["user@example.test", ["u@example.test", "Ü, b"]],
            replyTo=[["r@example.test", "R, S"]],
            fromEmail="f@example.test",
            fromName="F",
            subject="Grüße",
            body="one\n\ttwo\x1b[0m",
            attachments=[["/tmp/a.pdf", "a.pdf"]],
            smtpHost="own.example.test",
            smtpPort=25,
            smtpUser="me",
            smtpPassword="secret",
        )
        shown = self.output("show", name)
        for line in (
            f"Name:         {name}",
            "From:         F <f@example.test>",
            "To:           user@example.test, Ü, b <u@example.test>",
            'Reply-To:     "R, S" <r@example.test>',
            "Subject:      Grüße",
            "Attached:     /tmp/a.pdf a.pdf",
            "Server:       own.example.test:25 me",
            "Attempts:     1",
            "    user@example.test: temporary 450 4.2.0 later",
            "one",
            "        two\N{REPLACEMENT CHARACTER}[0m",
        ):
            self.assertIn(line, shown.splitlines())
        self.assertIn("s:587, 0.5 s: SMTP Error: temporary", shown)
        self.assertNotIn("secret", shown)

    def test_its_account_is_named(self) -> None:
        self.assertIn("Account:      shop\n", self.output("show", self.put(account="shop")))

    def test_a_held_mail_says_why(self) -> None:
        name = self.put(MailState(held="too odd", in_doubt=("user@example.test",)))
        shown = self.output("show", name)
        self.assertIn("Held:         too odd\n", shown)
        self.assertIn("In doubt:     user@example.test\n", shown)
        self.assertNotIn("Next attempt", shown)

    def test_a_dead_letter_says_why(self) -> None:
        shown = self.output("failed", "show", self.bury())
        self.assertIn("Reason:       refused for good\n", shown)

    def test_json_is_the_services_answer_with_detail(self) -> None:
        name = self.put()
        answer = json.loads(self.output("show", "--json", name))
        self.assertEqual((answer["data"], answer["message"]), (mail(), name))
        self.assertEqual(answer["detail"]["queueName"], name)

    def test_what_is_not_there_is_status_1(self) -> None:
        for command in (["show"], ["failed", "show"]):
            result = self.run_command(*command, _GONE)
            self.assertEqual((result.exit_code, result.stdout), (1, ""))
            self.assertIn("unable to get", result.stderr)
        result = self.run_command("show", "--json", _GONE)
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(json.loads(result.stdout)["status"], "error")


class TextTests(SynchronousTestCase):
    """Times for people."""

    def test_a_length_of_time_is_in_its_largest_unit(self) -> None:
        for seconds, shown in (
            (-5, "0 s"),
            (0.5, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (7199, "1 h"),
            (86_400, "1 d"),
            (1e9, "11574 d"),
        ):
            self.assertEqual(ago(seconds), shown)

    def test_a_time_beyond_the_calendar_is_a_number(self) -> None:
        self.assertEqual(local_time(1e15), "1000000000000000")
        self.assertEqual(local_time(None), "")


class ChangeTests(_CommandCase):
    """Updating, removing, trying again."""

    def document(self) -> dict[str, Any]:
        (name,) = self.names()
        document = self.successResultOf(self.store.get(name)).document
        assert not isinstance(document, str)
        return dict(document)

    def test_fields_are_changed(self) -> None:
        name = self.put()
        self.clock.advance(0.25)
        out = self.output(
            "update",
            name,
            "--set",
            'to=["new@example.test"]',
            "--set",
            "timeout=5",
            "--subject",
            "n=m",
        )
        self.assertEqual(out, f"queued mail updated: {self.names()[0]}\n")
        self.assertEqual(self.document(), mail(to=["new@example.test"], timeout=5, subject="n=m"))

    def test_a_schedule_is_now_a_number_or_a_time(self) -> None:
        name = self.put()
        local = time.mktime((2030, 1, 31, 8, 0, 0, 0, 0, -1))
        for text, expected in (
            ("1900000000", 1_900_000_000),
            ("2030-01-31T08:00", local),
            ("2030-01-31T08:00:00+00:00", 1_896_076_800),
            ("2030-01-31T08:00:00Z", 1_896_076_800),
        ):
            self.clock.advance(0.25)
            self.output("update", name, "--schedule", text)
            (name,) = self.names()
            self.assertEqual(int(due_of(name)), expected, text)
        self.output("update", name, "--schedule", "now")
        self.assertLess(abs(self.document()["scheduleTime"] - time.time()), 60)

    def test_what_makes_no_sense_is_wrong_usage_and_asks_nothing(self) -> None:
        for options in (
            [],
            ["--set", "subject"],
            ["--set", "=5"],
            ["--set", "subject=text"],
            ["--schedule", "tomorrow"],
        ):
            result = self.run_command("update", _GONE, *options)
            self.assertEqual(result.exit_code, 2, options)
        self.assertIn("double quotes", self.run_command("update", "x", "--set", "a=b").stderr)
        self.assertEqual(self.seen, [])

    def test_faults_of_fields_are_shown_by_path(self) -> None:
        result = self.run_command("update", self.put(), "--set", "timeout=0")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("timeout: Number must be greater than or equal to 1", result.stderr)

    def test_mails_are_removed_whatever_becomes_of_others(self) -> None:
        first, second = self.put(), self.put()
        result = self.run_command("remove", first, _GONE, second)
        self.assertEqual((result.exit_code, self.names()), (1, []))
        removed = f"{first}: queued mail removed\n{second}: queued mail removed\n"
        self.assertEqual(result.stdout, removed)
        self.assertIn(f"{_GONE}: unable to remove queued mail", result.stderr)
        self.assertEqual(self.run_command("remove").exit_code, 2)

    def test_json_is_an_answer_a_line(self) -> None:
        out = self.output("remove", "--json", self.put(), self.put())
        self.assertEqual([json.loads(line)["status"] for line in out.splitlines()], ["success"] * 2)

    def test_clearing_asks_first(self) -> None:
        self.put()
        for text in ("", "n\n", "\n"):
            self.assertEqual(self.run_command("clear", text=text).exit_code, 1)
            self.assertEqual(len(self.names()), 1)
        result = self.run_command("clear", text="y\n")
        self.assertIn("Remove 1 waiting mails for good?", result.stderr)
        self.assertEqual((result.stdout, self.names()), ("removed 1 mails in queue\n", []))

    def test_with_yes_it_does_not_ask(self) -> None:
        self.put()
        self.assertEqual(self.output("clear", "--yes"), "removed 1 mails in queue\n")
        self.assertEqual(json.loads(self.output("clear", "--yes", "--json"))["data"], [])

    def test_a_dead_letter_is_tried_again(self) -> None:
        name = self.bury()
        out = self.output("retry", name)
        self.assertEqual(out, f"{name}: failed mail added to queue\n")
        self.assertEqual((self.names(), self.dead()), ([name], []))

    def test_all_dead_letters_are_tried_again(self) -> None:
        names = [self.bury() for _ in range(3)]
        out = self.output("failed", "retry", "--all")
        self.assertEqual((self.names(), len(out.splitlines())), (names, 3))
        self.assertEqual(self.output("retry", "--all"), "")

    def test_more_dead_letters_than_a_page_are_all_tried_again(self) -> None:
        for _ in range(3):
            self.bury()
        self.patch(_module("smtpmailer.cli.queue"), "_MOST", 2)
        self.output("retry", "--all")
        self.assertEqual((len(self.names()), self.dead()), (3, []))

    def test_a_waiting_or_held_mail_is_due_now(self) -> None:
        self.put(MailState(held="in doubt"))
        self.output("retry", self.names()[0])
        state = self.successResultOf(self.store.get(self.names()[0])).state
        self.assertEqual((state.held, state.next_at), ("", None))
        self.assertLess(abs(due_of(self.names()[0]) - time.time()), 60)

    def test_what_can_not_be_tried_again_is_status_1(self) -> None:
        result = self.run_command("retry", _GONE)
        self.assertEqual(result.exit_code, 1)
        self.assertIn("unable to retry failed mail", result.stderr)
        for command in (["retry"], ["retry", "--all", "x"]):
            self.assertEqual(self.run_command(*command).exit_code, 2)

    def test_dead_letters_are_removed_one_by_one_or_all(self) -> None:
        names = [self.bury() for _ in range(3)]
        self.output("failed", "remove", names[0])
        self.assertEqual(self.dead(), names[1:])
        self.assertEqual(self.run_command("failed", "clear", text="n\n").exit_code, 1)
        self.assertEqual(self.output("failed", "clear", "--yes"), "removed 2 failed mails\n")
        self.assertEqual(self.dead(), [])


class RefusalTests(_CommandCase):
    """What the service refuses is said with what to do about it."""

    def test_a_read_only_service_names_the_setting(self) -> None:
        self.dispatcher = make_dispatcher(self, Gates(queue_enabled=True))
        for command in (["remove", _GONE], ["retry", _GONE], ["clear", "--yes"]):
            result = self.run_command(*command)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("MAILER_QUEUE_API_READ_ONLY", result.stderr)

    def test_a_service_without_a_queue_names_the_setting(self) -> None:
        self.dispatcher = make_dispatcher(self, Gates())
        for command in (
            ["list"],
            ["show", _GONE],
            ["retry", "--all"],
            ["clear"],
            ["failed", "list"],
        ):
            result = self.run_command(*command)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("MAILER_QUEUE = true", result.stderr)

    def test_no_service_is_status_3(self) -> None:
        with ScriptedService(answering(dict, [])) as gone:
            self.port = gone.port
        for command in (["list"], ["show", "x"], ["remove", "x"], ["clear", "--yes"]):
            self.assertEqual(self.run_command(*command).exit_code, 3, command)


def _module(name: str) -> Any:
    import importlib  # noqa: PLC0415 - the package's attribute is the command

    return importlib.import_module(name)
