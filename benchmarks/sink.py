# SPDX-License-Identifier: MIT
"""An SMTP server for benchmarks that takes everything, keeps nothing, and is no bottleneck.

Run it as ``python benchmarks/sink.py --offer PIPELINING,CHUNKING --cert FILE --key FILE``. It
prints its port and serves until standard input ends. One thread, one epoll, and as few system
calls as it takes. ``--delay`` holds every answer back for so many milliseconds, which is how a
round trip looks from the client's side. A line on standard input makes it print how many mails it
has taken so far.
"""

from __future__ import annotations

import argparse
import contextlib
import select
import socket
import ssl
import sys
import time
from collections import deque
from typing import Final

_READ: Final = 120 * 1024
_CRLF: Final = b"\r\n"
_DOT: Final = b"\r\n.\r\n"

_OK: Final = b"250 2.0.0 ok\r\n"
_KEPT: Final = b"250 2.0.0 kept\r\n"
_ANSWERS: Final = {
    b"MAIL": b"250 2.1.0 ok\r\n",
    b"RCPT": b"250 2.1.5 ok\r\n",
    b"RSET": _OK,
    b"NOOP": _OK,
}


class Sink:
    """Listens and serves."""

    def __init__(self, offer: tuple[str, ...], delay: float, tls: ssl.SSLContext | None) -> None:
        """Offer these extensions; ``delay`` is in seconds; with ``tls`` there is STARTTLS."""
        words = ["sink.example.org", "8BITMIME", "SIZE 100000000", *offer]
        self.plain = _ehlo([*words, "STARTTLS"] if tls else [*words, "AUTH PLAIN LOGIN"])
        self.secured = _ehlo([*words, "AUTH PLAIN LOGIN"])
        self.tls = tls
        self.mails = 0
        self._delay = delay
        self._held: deque[tuple[float, Client, bytes]] = deque()
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Serve until standard input ends."""
        listener, stdin = self._listener.fileno(), sys.stdin.fileno()
        self._poll.register(listener, select.EPOLLIN)
        self._poll.register(stdin, select.EPOLLIN | select.EPOLLHUP)
        while True:
            if self._held:
                # An epoll alone waits in whole milliseconds.
                wait = max(self._held[0][0] - time.monotonic(), 0.0)
                select.select([self._poll.fileno()], [], [], wait)
            for handle, _ in self._poll.poll(0 if self._held else -1):
                if handle == listener:
                    self._accept()
                elif handle == stdin:
                    if not sys.stdin.readline():
                        return
                    print(self.mails, flush=True)
                else:
                    self._clients[handle].readable()
            self._let_go()

    def answer(self, client: Client, answer: bytes) -> None:
        """Write an answer, now or when its time comes."""
        if self._delay:
            self._held.append((time.monotonic() + self._delay, client, answer))
        else:
            client.write(answer)

    def forget(self, client: Client) -> None:
        """Let go of a connection that has ended."""
        handle = client.socket.fileno()
        self._poll.unregister(handle)
        del self._clients[handle]
        client.socket.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Client(self, connection)
        self._clients[connection.fileno()] = client
        self._poll.register(connection.fileno(), select.EPOLLIN)
        self.answer(client, b"220 sink.example.org ESMTP\r\n")

    def _let_go(self) -> None:
        now = time.monotonic()
        while self._held and self._held[0][0] <= now:
            _, client, answer = self._held.popleft()
            client.write(answer)


class Client:
    """One connection: what it sent that is not used yet, and what it is in the middle of."""

    def __init__(self, sink: Sink, connection: socket.socket) -> None:
        """Begin with commands."""
        self._sink = sink
        self.socket = connection
        self._buffer = b""
        self._left_of_chunk = 0
        self._last_chunk = False
        self._in_data = False
        self._login_answers = 0
        self._tls: ssl.SSLObject | None = None
        self._handshaking = True
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def readable(self) -> None:
        """Read what is there and answer it."""
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._sink.forget(self)
            return
        answer = self._take(self._buffer + (data if self._tls is None else self._decrypt(data)))
        if answer:
            self._sink.answer(self, answer)

    def write(self, answer: bytes) -> None:
        """Write an answer; they are small, so a full socket is a client that is gone."""
        if self.socket.fileno() < 0:
            return
        if self._tls is None:
            self._send(answer)
        else:
            self._tls.write(answer)
            self._send(self._outgoing.read())
        if answer.startswith(b"220 2.0.0 go"):
            assert self._sink.tls is not None
            self._tls = self._sink.tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        elif answer.endswith(b"221 2.0.0 bye\r\n"):
            self._sink.forget(self)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(data)

    def _decrypt(self, data: bytes) -> bytes:
        """Give what a piece of the TLS stream holds; nothing during the handshake."""
        tls = self._tls
        assert tls is not None
        self._incoming.write(data)
        plain: list[bytes] = []
        try:
            if self._handshaking:
                tls.do_handshake()
                self._handshaking = False
            # Several records in a piece are usual; asking once more costs an exception.
            while self._incoming.pending or tls.pending():
                plain.append(tls.read(_READ))
        except ssl.SSLWantReadError:
            pass
        if self._outgoing.pending:
            self._send(self._outgoing.read())
        return b"".join(plain)

    def _take(self, data: bytes) -> bytes:
        """Go through what came in; give the answers and keep the rest."""
        answers: list[bytes] = []
        at, end = 0, len(data)
        while at < end:
            if self._left_of_chunk:
                at += self._skip(end - at, answers)
                continue
            line_end = data.find(_DOT if self._in_data else _CRLF, at)
            if line_end < 0:
                if self._in_data:  # Of a message only what may be the begin of its end matters.
                    at = max(at, end - len(_DOT) + 1)
                break
            if self._in_data:
                self._in_data = False
                at = line_end + len(_DOT)
                self._sink.mails += 1
                answers.append(_KEPT)
                continue
            line, at = data[at:line_end], line_end + 2
            answer = _ANSWERS.get(line[:4].upper())
            answers.append(answer or self._command(line))
            if self._in_data:
                at -= 2  # A dot may be the first line.
        self._buffer = data[at:]
        return b"".join(answers)

    def _skip(self, there: int, answers: list[bytes]) -> int:
        """Pass over bytes of a chunk; give how many."""
        used = min(self._left_of_chunk, there)
        self._left_of_chunk -= used
        if not self._left_of_chunk:
            self._sink.mails += self._last_chunk
            answers.append(_KEPT)
        return used

    def _command(self, line: bytes) -> bytes:
        words = line.upper().split()
        verb = words[0] if words else b""
        if verb == b"BDAT":
            self._left_of_chunk, self._last_chunk = int(words[1]), words[-1] == b"LAST"
            return b"" if self._left_of_chunk else _KEPT
        if verb == b"DATA":
            self._in_data = True
            return b"354 go on\r\n"
        if self._login_answers:
            self._login_answers -= 1
            return b"334 UGFzc3dvcmQ6\r\n" if self._login_answers else b"235 2.7.0 welcome\r\n"
        return self._rare(words)

    def _rare(self, words: list[bytes]) -> bytes:
        """Answer what comes once a connection."""
        verb = words[0] if words else b""
        if verb in (b"EHLO", b"HELO"):
            return self._sink.plain if self._tls is None else self._sink.secured
        if verb == b"STARTTLS" and self._sink.tls is not None:
            return b"220 2.0.0 go\r\n"
        if verb == b"AUTH" and words[1:2] == [b"LOGIN"]:
            self._login_answers = 3 - len(words)
            return b"334 VXNlcm5hbWU6\r\n" if len(words) == 2 else b"334 UGFzc3dvcmQ6\r\n"
        if verb == b"AUTH":
            return b"235 2.7.0 welcome\r\n"
        return b"221 2.0.0 bye\r\n" if verb == b"QUIT" else b"502 5.5.1 what?\r\n"


def _ehlo(words: list[str]) -> bytes:
    lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
    return "".join(f"{line}\r\n" for line in lines).encode()


def main() -> int:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offer", default="", help="further extensions, with commas between")
    parser.add_argument("--delay", type=float, default=0.0, help="of each answer, in ms")
    parser.add_argument("--cert", default="", help="PEM file; with it there is STARTTLS")
    parser.add_argument("--key", default="", help="PEM file")
    options = parser.parse_args()
    tls = None
    if options.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.cert, options.key)
    sink = Sink(tuple(filter(None, options.offer.split(","))), options.delay / 1000, tls)
    print(sink.port, flush=True)
    sink.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
