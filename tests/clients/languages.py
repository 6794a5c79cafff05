# SPDX-License-Identifier: MIT
"""How a call is made with each client: as a program in its own language."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Call", "Go", "Language", "Module", "Script", "Shell"]

ROOT = Path(__file__).resolve().parent.parent.parent
DRIVERS = ROOT / "tests" / "clients" / "drivers"
_DEADLINE = 30

_Result = Callable[[int, bytes, bytes], dict[str, Any]]


@attrs.frozen(kw_only=True)
class Call:
    """A call to make: sendMail, queueMail, request or forget."""

    client: Mapping[str, Any]
    call: str
    argument: Any = attrs.field(repr=False)


@attrs.frozen
class Language:
    """A client in some language."""

    def make(self, calls: Mapping[str, Call]) -> dict[str, dict[str, Any]]:
        """Make all calls at the same time; give what came of each."""
        running = {name: self.start(call) for name, call in calls.items()}
        return _finish({name: (each, self.result) for name, each in running.items()})

    def start(self, call: Call) -> subprocess.Popen[bytes]:
        """Start making a call."""
        return _run(self.command(), text=json.dumps(attrs.asdict(call)))

    def command(self) -> list[str]:
        """Give the program."""
        raise NotImplementedError

    def result(self, status: int, out: bytes, err: bytes) -> dict[str, Any]:
        """Give what came of a call."""
        assert status == 0, err.decode(errors="replace")
        assert not err, err.decode(errors="replace")
        result: dict[str, Any] = json.loads(out)
        return result


@attrs.frozen
class Module(Language):
    """One of the package's own clients; its driver makes all calls in one process."""

    name: str

    def make(self, calls: Mapping[str, Call]) -> dict[str, dict[str, Any]]:
        """Make all calls at the same time; give what came of each."""
        jobs = json.dumps({name: attrs.asdict(call) for name, call in calls.items()})
        running = _run(self.command(), text=jobs)
        results: dict[str, dict[str, Any]] = _finish({"": (running, self.result)})[""]
        return results

    def command(self) -> list[str]:
        """Give the program."""
        return [sys.executable, "-W", "error", "-m", f"tests.clients.drivers.{self.name}"]


@attrs.frozen
class Script(Language):
    """A driver for an interpreter."""

    program: tuple[str, ...]
    driver: str

    def command(self) -> list[str]:
        """Give the program."""
        return [*_found(*self.program), str(DRIVERS / self.driver)]


@attrs.frozen
class Go(Language):
    """A driver that is compiled first."""

    def command(self) -> list[str]:
        """Give the program."""
        return [f"{_build_go().name}/driver"]


@functools.cache
def _build_go() -> tempfile.TemporaryDirectory[str]:
    """Build the driver in a directory of its own, with nothing left outside of it."""
    directory = tempfile.TemporaryDirectory(prefix="smtpmailer-go-")
    folder = Path(directory.name)
    module = "module driver\n\ngo 1.19\n\nrequire smtpmailer v0.0.0\n"
    module += f"\nreplace smtpmailer => {ROOT / 'clients' / 'go'}\n"
    (folder / "go.mod").write_text(module, "ascii")
    shutil.copy(DRIVERS / "driver.go", folder)
    environment = {
        "GOCACHE": str(folder / "cache"),
        "GOPATH": str(folder / "path"),
        "GOFLAGS": "-mod=mod",
        "GOPROXY": "off",
    }
    building = _run([*_found("go"), "build", "-o", "driver", "."], folder, environment)
    _, err = building.communicate(timeout=4 * _DEADLINE)
    assert building.returncode == 0, err.decode()
    return directory


_FLAGS = {
    "host": "-H",
    "port": "-p",
    "caFile": "-C",
    "serverName": "-N",
    "timeout": "-T",
}


@attrs.frozen
class Shell(Language):
    """The shell's client, which is a program of its own."""

    def start(self, call: Call) -> subprocess.Popen[bytes]:
        """Start making a call."""
        for needed in ("nc", "openssl"):
            _found(needed)
        command = ["sh", str(ROOT / "clients" / "shell" / "smtpmailer.sh")]
        environment = {}
        for key, value in call.client.items():
            if key == "tls":
                command += ["-S"] if value else []
            elif key == "auth":
                environment["SMTPMAILER_PASSWORD"] = value
            else:
                command += [_FLAGS[key], str(value)]
        options, text = _arguments(call)
        return _run([*command, *options], environment=environment, text=text)

    def result(self, status: int, out: bytes, err: bytes) -> dict[str, Any]:
        """Translate an exit status."""
        assert b"Usage" not in err, err.decode(errors="replace")
        if status in (3, 4):
            return {"unreachable": err.decode(), "maybeDone": status == 4}
        assert status in (0, 1), (status, err.decode(errors="replace"))
        assert not err, err.decode(errors="replace")
        answer = json.loads(out) if out else None
        if status == 1:
            return {"refused": answer, "text": out.decode()}
        return {"done": answer["data"] if answer and "data" in answer else answer}


def _arguments(call: Call) -> tuple[list[str], str]:
    if call.call == "request":
        return ["-j"], json.dumps(call.argument)
    mail = call.argument
    flags = {"sendMail": [], "queueMail": ["-q"]}.get(call.call)
    if flags is None:
        ((name, mail),) = call.argument.items()
        flags = ["-F", *(["-q"] if name == "queueMail" else [])]
    for each in mail["to"]:
        flags += ["-t", each if isinstance(each, str) else f"{each[1]} <{each[0]}>"]
    return [*flags, "-s", mail["subject"]], mail["body"]


def _finish(running: Mapping[str, tuple[subprocess.Popen[bytes], _Result]]) -> dict[str, Any]:
    """Wait for processes; give what each one's result is."""
    results = {}
    try:
        for name, (each, result) in running.items():
            out, err = each.communicate(timeout=_DEADLINE)
            results[name] = result(each.returncode, out, err)
    finally:
        for each, _ in running.values():
            each.kill()
    return results


def _found(program: str, *arguments: str) -> list[str]:
    path = shutil.which(program)
    assert path is not None, f"{program} is missing: sh scripts/test-tools.sh installs it"
    return [path, *arguments]


def _run(
    command: list[str],
    folder: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    text: str | None = None,
) -> subprocess.Popen[bytes]:
    running = subprocess.Popen(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdin is not None
    if text is not None:
        running.stdin.write(text.encode())
    running.stdin.close()
    running.stdin = None
    return running
