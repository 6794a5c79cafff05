# SPDX-License-Identifier: MIT
"""Redis servers of a test's own, on loopback: with replicas, sentinels and TLS."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import hiredis

from tests.ports import free_port

__all__ = ["DEADLINE", "RedisServer", "free_port", "start_replica", "start_sentinel", "until"]

#: Else a replica that comes counts from its first sign of life on, up to a second later.
_AT_ONCE: Final = {"repl-diskless-sync": "no"}
#: Seconds that anything may take before a test gives up.
DEADLINE: Final = 15.0


def until(what: str, probe: Callable[[], object]) -> None:
    """Ask ``probe`` until it gives something true; AssertionError at the deadline."""
    end = time.monotonic() + DEADLINE
    while not probe():
        assert time.monotonic() < end, f"{what}: not so after {DEADLINE:g} s"
        time.sleep(0.005)


class RedisServer:
    """A redis-server process with a folder for its data, which goes with it.

    ``settings`` are those of redis.conf, without persistence unless they say so; ``port`` may be
    that of TLS. With ``sentinel`` it is a sentinel with this configuration instead.
    """

    def __init__(
        self, settings: Mapping[str, object] | None = None, *, port: int = 0, sentinel: str = ""
    ) -> None:
        """Start it, and wait until it answers."""
        self.port = port or free_port()
        #: The password of the default user; for ``call`` to know.
        self.password = str((settings or {}).get("requirepass", ""))
        self.folder = Path(tempfile.mkdtemp(prefix="smtpmailer-redis-"))
        self.unix_socket = self.folder / "socket"
        values: dict[str, object] = {
            "port": self.port,
            "bind": "127.0.0.1 -::1",
            "dir": self.folder,
            "unixsocket": self.unix_socket,
            **({} if sentinel else {"save": '""', "appendonly": "no", **_AT_ONCE}),
            **(settings or {}),
        }
        lines = [f"{key} {value}\n" for key, value in values.items()]
        self._config = self.folder / "redis.conf"
        self._config.write_text("".join(lines) + sentinel, "utf-8")
        self._kind = ("--sentinel",) if sentinel else ()
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again), with what it had stored; waits until it answers."""
        self.launch()
        until("redis-server answers", self._is_ready)

    def launch(self) -> None:
        """Start it, and don't wait."""
        program = shutil.which("redis-server", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "redis-server is missing: sh scripts/test-tools.sh installs it"
        with (self.folder / "log").open("ab") as log:
            self._running = subprocess.Popen(
                [program, str(self._config), *self._kind],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def call(self, *words: object) -> Any:
        """Carry out a command, past passwords and TLS; an error reply is raised, as is OSError.

        Replies are bytes, int, None and lists of them.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(self.unix_socket))
            reader = hiredis.Reader()
            if self.password:
                _exchange(client, reader, ("AUTH", self.password))
            reply = _exchange(client, reader, words)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def dump(self) -> dict[str, Any]:
        """Give all keys with their values: texts as bytes, sorted sets as lists in order."""
        return {key.decode(): self._value(key) for key in sorted(self.call("KEYS", "*"))}

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as its packages do (SIGTERM)."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Make it hang: connections stay open, nothing is answered (SIGSTOP)."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        assert self._running is not None
        self._running.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Give what it logged, for a test that fails."""
        return (self.folder / "log").read_text("utf-8", "replace")

    def clean_up(self) -> None:
        """Kill it if it still runs, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder)

    def _value(self, key: bytes) -> Any:
        kind = self.call("TYPE", key)
        commands: dict[bytes, tuple[object, ...]] = {
            b"string": ("GET", key),
            b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
            b"hash": ("HGETALL", key),
            b"set": ("SMEMBERS", key),
            b"list": ("LRANGE", key, 0, -1),
        }
        return self.call(*commands[kind])

    def _is_ready(self) -> bool:
        assert self._running is not None
        assert self._running.poll() is None, self.log()
        try:
            return bool(self.call("PING") == b"PONG")
        except (OSError, AssertionError, hiredis.ReplyError):
            return False

    def _end(self, how: signal.Signals) -> None:
        if self._running is not None:
            self._running.send_signal(how)
            self._running.wait(DEADLINE)
            self._running = None


def start_replica(master: RedisServer, settings: Mapping[str, object] | None = None) -> RedisServer:
    """Start a replica of a server, and wait until it has all that the master has."""
    replica = RedisServer({"replicaof": f"127.0.0.1 {master.port}", **(settings or {})})
    # The master takes no notice of what it acknowledges at first.
    until("the replica follows", lambda: _follows(replica) and master.call("WAIT", 1, 50))
    return replica


def _follows(replica: RedisServer) -> bool:
    return b"master_link_status:up" in replica.call("INFO", "replication")


def start_sentinel(
    name: str, master: RedisServer, settings: Mapping[str, object] | None = None
) -> RedisServer:
    """Start a sentinel that alone decides on a fail-over, soon after its master is away."""
    lines = (
        f"sentinel monitor {name} 127.0.0.1 {master.port} 1",
        f"sentinel down-after-milliseconds {name} 300",
        f"sentinel failover-timeout {name} 3000",
    )
    return RedisServer(settings, sentinel="".join(f"{line}\n" for line in lines))


def _exchange(client: socket.socket, reader: hiredis.Reader, words: Sequence[object]) -> Any:
    packed: tuple[Any, ...] = tuple(w if isinstance(w, bytes) else str(w) for w in words)
    client.sendall(hiredis.pack_command(packed))
    while (reply := reader.gets()) is False:
        received = client.recv(65536)
        if not received:
            raise ConnectionResetError("redis-server closed the connection")
        reader.feed(received)
    return reply
