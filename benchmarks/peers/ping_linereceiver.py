# SPDX-License-Identifier: MIT
"""A peer for bench_api.py: Twisted's LineReceiver and the standard library's json answer ping."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver


class Ping(LineReceiver):
    """Answers each object, which has to arrive in one piece."""

    transport: Any

    def connectionMade(self) -> None:
        """Take bytes as they come."""
        self.setRawMode()

    def rawDataReceived(self, data: bytes) -> None:
        """Answer."""
        assert "ping" in json.loads(data)
        answer = {"status": "success", "data": None, "message": "pong"}
        self.transport.write(json.dumps(answer).encode() + b"\n")


any_reactor: Any = reactor
any_reactor.listenTCP(int(sys.argv[1]), Factory.forProtocol(Ping), interface="127.0.0.1")
any_reactor.run()
