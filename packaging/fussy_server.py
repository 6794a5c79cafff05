# SPDX-License-Identifier: MIT
"""An SMTP server on the loopback that refuses some recipients: fussy_server.py PORT.

Addresses that begin with ``later`` are refused for now, those with ``never`` for good. For each
mail that it takes it prints a line, the recipients. It needs no package.
"""

from __future__ import annotations

import socketserver
import sys

__all__ = ["FussyServer", "Session"]

_REFUSALS = {b"later": b"451 4.2.0 not now", b"never": b"550 5.1.1 no such user"}


class Session(socketserver.StreamRequestHandler):
    """One connection: a command a line, an answer a line."""

    def handle(self) -> None:
        """Answer until the client goes."""
        self.taken: list[str] = []
        self._answer(b"220 fussy.example.com")
        for line in self.rfile:
            self._answer(self._to(line.strip()))

    def _answer(self, reply: bytes) -> None:
        self.wfile.write(reply + b"\r\n")

    def _to(self, command: bytes) -> bytes:
        verb = command[:4].upper()
        if verb == b"MAIL":
            self.taken = []
        if verb == b"RCPT":
            return self._recipient(command)
        if verb == b"DATA":
            return self._data()
        return b"250 fine"

    def _recipient(self, command: bytes) -> bytes:
        address = command.partition(b"<")[2].partition(b">")[0]
        for begin, refusal in _REFUSALS.items():
            if address.startswith(begin):
                return refusal
        self.taken.append(address.decode())
        return b"250 2.1.5 fine"

    def _data(self) -> bytes:
        if not self.taken:
            return b"554 5.5.1 nobody to send it to"
        self._answer(b"354 go on")
        for line in self.rfile:
            if line == b".\r\n":
                break
        print(*self.taken, flush=True)
        return b"250 2.0.0 taken"


class FussyServer(socketserver.ThreadingTCPServer):
    """It takes several connections at a time, and its port at once after a predecessor's end."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with FussyServer(("127.0.0.1", int(sys.argv[1])), Session) as server:
        server.serve_forever()
