# SPDX-License-Identifier: MIT
"""A tutorial as a list of steps, and a directory in which they are done.

In the document a block marked ``console`` holds commands behind ``$`` and what they print. A block
marked ``text`` is what the trap, which runs on, prints next. Any other block is a file: the text
before it says ``into `NAME`:``. A comment of ``EVENTS`` says what else happened.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import attrs

from tests.integration.service import DEADLINE, until
from tests.ports import free_port

__all__ = ["EVENTS", "Step", "Terminal", "alike", "steps"]

ROOT: Final = Path(__file__).resolve().parent.parent.parent

#: The next block was done before; the trap is ended.
EVENTS: Final = ("done before", "Ctrl-C")

_PIECE: Final = re.compile(
    r"^<!-- (?P<event>[^>]+) -->$"
    r"|(?:into `(?P<file>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_NAME: Final = re.compile(r"mail_[0-9]{19}\.[0-9]{8}_[0-9a-f]{16}\.json")

#: What is another text in each run: how it looks, and what stands for it when two are compared.
_VARIES: Final = (
    (_NAME, "MAIL"),
    (re.compile(r"\b[0-9a-f]{16}\b"), "ID"),
    (re.compile(r"Date: .*"), "Date: THEN"),
    (re.compile(r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\b"), "THEN"),
    (re.compile(r"\b[0-9]{8}T[0-9]{6}-"), "STAMP-"),
    (re.compile(r"\b[0-9]{2}:[0-9]{2}:[0-9]{2}\b"), "CLOCK"),
    (re.compile(r"\(process [0-9]+\)"), "(process N)"),
    (re.compile(r"\b[0-9.]+ ms\b"), "N ms"),
    (re.compile(r"\b[0-9.]+ s: "), "N s: "),
    # A process with its id, age, memory, connections and requests.
    (re.compile(r"(service +)[0-9]+( +running +)[0-9]+ s( +)[0-9]+ MB +[0-9]+ +[0-9]+"), r"\1\2"),
    (re.compile(r" +"), " "),
)

#: What only looks may be asked again until it shows what is expected.
_LOOKS: Final = re.compile(r"smtpmailer (queue (list|show)|status|ping)|cat ")


@attrs.frozen(kw_only=True)
class Step:
    """One thing that the reader does: a command, a file to write, a look at the trap, an event."""

    command: str = ""
    printed: str = ""
    file: str = ""
    event: str = ""


def steps(document: str) -> Iterator[Step]:
    """Read a tutorial; blocks and comments that are none of ours count for nothing."""
    skip = False
    for piece in _PIECE.finditer(document):
        if piece["event"]:
            skip = piece["event"] == "done before"
            if piece["event"] in EVENTS:
                yield Step(event=piece["event"])
        elif skip:
            skip = False
        elif piece["kind"] == "console":
            yield from _commands(piece["text"])
        elif piece["kind"] == "text":
            yield Step(printed=piece["text"])
        elif piece["file"]:
            yield Step(file=piece["file"], printed=piece["text"])


def alike(text: str) -> str:
    """Give a text with everything replaced that differs from run to run."""
    for pattern, stands_for in _VARIES:
        text = pattern.sub(stands_for, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


class Terminal:
    """A directory of its own, in which commands find our programs; ports are free ones.

    Names of mails that the document tells are replaced by those that the service gave.
    """

    def __init__(self) -> None:
        """Make it."""
        self._folder = tempfile.TemporaryDirectory(prefix="smtpmailer-tutorial-")
        self.path = Path(self._folder.name, "mailer")
        self.path.mkdir()
        self._words = {
            "/home/you/mailer": str(self.path),
            "127.0.0.1:3000": f"127.0.0.1:{(api := free_port())}",
            "localhost 3000": f"localhost {api}",
            "127.0.0.1:1025": f"127.0.0.1:{(smtp := free_port())}",
            "SMTP_PORT = 1025": f"SMTP_PORT = {smtp}\nMAILER_PORT = {api}",
        }
        self._smtp = smtp
        self._variables = _environment(self._programs(), api)
        self._trap: subprocess.Popen[bytes] | None = None
        self._trap_output: BinaryIO | None = None
        self._trap_read = 0

    def write(self, name: str, text: str) -> None:
        """Write a file."""
        (self.path / name).write_text(self._here(text), "utf-8")

    def shows(self, step: Step) -> str:
        """Do what a step says; give what was printed, as the document would have it."""
        if step.command == "smtpmailer trap":
            self._open_trap()
        if not step.command or step.command == "smtpmailer trap":
            return self._until_alike(self._trap_lines, step.printed)
        if _LOOKS.match(step.command):
            return self._until_alike(lambda: self._run(step.command), step.printed)
        printed = self._run(step.command)
        self._learn(step.printed, printed)
        return self._there(printed)

    def end_trap(self) -> None:
        """Press Ctrl-C in the terminal of the trap."""
        if self._trap is not None:
            self._trap.send_signal(signal.SIGINT)
            self._trap.wait(DEADLINE)
            self._trap = None
        if self._trap_output is not None:
            self._trap_output.close()
            self._trap_output = None

    def clean_up(self) -> None:
        """End what runs, whatever happened, and remove everything."""
        if (self.path / "run/smtpmailer.pid").exists():
            self._run("smtpmailer stop")
        self.end_trap()
        self._folder.cleanup()

    def _run(self, command: str) -> str:
        ended = subprocess.run(
            ["bash", "-c", self._here(command)],
            cwd=self.path,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return ended.stdout.decode("utf-8", "replace")

    def _open_trap(self) -> None:
        self._trap_output = (self.path.parent / "trap.log").open("w+b")
        self._trap_read = 0
        self._trap = subprocess.Popen(
            [sys.executable, "-m", "smtpmailer", "trap", "--port", str(self._smtp)],
            cwd=self.path,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=self._trap_output,
            stderr=self._trap_output,
        )

    def _trap_lines(self) -> str:
        """Give what the trap printed since it was looked at last."""
        text = (self.path.parent / "trap.log").read_text("utf-8")
        return text[self._trap_read :]

    def _until_alike(self, look: Callable[[], str], expected: str) -> str:
        """Look until it shows what is expected, or the deadline; give what was shown last."""
        shown = ""

        def fits() -> bool:
            nonlocal shown
            shown = look()
            return alike(self._there(shown)) == alike(expected)

        try:
            until("it is shown", fits)
        except AssertionError:
            return self._there(shown)
        if look == self._trap_lines:
            self._trap_read += len(shown)
        return self._there(shown)

    def _learn(self, expected: str, printed: str) -> None:
        """Remember which of our names stands for which of the document's."""
        self._words.update(zip(_NAME.findall(expected), _NAME.findall(printed), strict=False))

    def _here(self, text: str) -> str:
        for told, ours in self._words.items():
            text = text.replace(told, ours)
        return text

    def _there(self, text: str) -> str:
        for told, ours in self._words.items():
            text = text.replace(ours, told)
        return text

    def _programs(self) -> Path:
        """Make a directory that holds the command, as an environment's ``bin`` does."""
        place = self.path.parent / "bin"
        place.mkdir()
        program = place / "smtpmailer"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m smtpmailer "$@"\n', "utf-8")
        program.chmod(0o755)
        return place


def _commands(text: str) -> Iterator[Step]:
    """Cut a block into commands, each with what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield Step(command=command, printed=printed)


def _environment(programs: Path, api_port: int) -> dict[str, str]:
    """Give an environment in which nothing of ours is set but where the API is."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    return kept | {
        "MAILER_PORT": str(api_port),
        "NO_COLOR": "1",
        "PATH": f"{programs}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "PYTHONPATH": str(ROOT),
        "TZ": "UTC",
    }
