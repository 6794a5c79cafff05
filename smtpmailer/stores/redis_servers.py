# SPDX-License-Identifier: MIT
"""Where the Redis server is: at a fixed address, or wherever the sentinels say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import attrs
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
)
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from smtpmailer.coroutines import returns_deferred
from smtpmailer.errors import RedisAwayError, RedisError
from smtpmailer.stores.redis_connection import Limits, Login, RedisConnection, describe, greet

__all__ = ["Address", "FixedServer", "Network", "Place", "Sentinels", "shown"]

#: Host name or IP address, and port.
Address: TypeAlias = tuple[str, int]

#: Seconds that a sentinel has for each answer, and at most to take a connection.
_SENTINEL_LIMIT: Final = 2.0


class Place(Protocol):
    """Tells where the server is now."""

    #: Whether the server there has to be asked if it is the master.
    needs_master: bool

    def locate(self) -> Deferred[Address]:
        """Fire with the server's address; fails with RedisAwayError."""


@attrs.frozen(kw_only=True)
class Network:
    """The way to servers; ``tls`` makes TLS options for a host, None for plain TCP.

    ``connect_limit`` is in seconds.
    """

    reactor: Any
    connect_limit: float
    tls: Callable[[str], IOpenSSLClientConnectionCreator] | None = None

    @returns_deferred
    async def connect(self, address: Address, limits: Limits) -> RedisConnection:
        """Open a connection; fails with RedisAwayError."""
        connection = RedisConnection(self.reactor, limits, shown(address))
        try:
            await self._endpoint(address).connect(self._factory(address, connection))
        except CancelledError:
            raise
        except Exception as error:
            why = f"{shown(address)}: {describe(Failure(error))}"
            raise RedisAwayError(why, sent=False) from error
        return connection

    def _endpoint(self, address: Address) -> IStreamClientEndpoint:
        host, port = address
        kind: Any = HostnameEndpoint
        # An IP address needs no thread that looks it up.
        if isIPAddress(host):
            kind = TCP4ClientEndpoint
        elif isIPv6Address(host):
            kind = TCP6ClientEndpoint
        endpoint: IStreamClientEndpoint = kind(self.reactor, host, port, timeout=self.connect_limit)
        return endpoint

    def _factory(self, address: Address, connection: RedisConnection) -> IProtocolFactory:
        factory = _Once(connection)
        if self.tls is None:
            return factory
        options = self.tls(address[0])
        return TLSMemoryBIOFactory(options, True, factory, clock=self.reactor)


class _Once(Factory):
    """Has one connection to give; says nothing about it in the log."""

    noisy = False

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> RedisConnection:
        """Give the connection."""
        del addr
        return self._connection


class FixedServer:
    """A server whose address never changes; its name may be looked up anew each time."""

    needs_master = False

    def __init__(self, address: Address) -> None:
        self._address = address

    def locate(self) -> Deferred[Address]:
        """Fire with the address."""
        return succeed(self._address)


class Sentinels:
    """Asks sentinels, one after another, for the master that they agree on.

    The one that answered is asked first the next time, as Redis's guidelines for clients want it.
    """

    needs_master = True

    def __init__(
        self, addresses: Sequence[Address], master: str, login: Login, network: Network
    ) -> None:
        """``login`` is the sentinels' own, not the server's."""
        self._addresses = list(addresses)
        self._master = master
        self._login = login
        self._network = attrs.evolve(
            network, connect_limit=min(network.connect_limit, _SENTINEL_LIMIT)
        )

    @returns_deferred
    async def locate(self) -> Address:
        """Fire with the master's address; see Place."""
        faults = []
        for address in tuple(self._addresses):
            try:
                found = await self._ask(address)
            except RedisError as error:
                faults.append(str(error))
                continue
            self._addresses.remove(address)
            self._addresses.insert(0, address)
            return found
        raise RedisAwayError(f"no sentinel knows the master: {'; '.join(faults)}", sent=False)

    async def _ask(self, address: Address) -> Address:
        connection = await self._network.connect(address, Limits(answer=_SENTINEL_LIMIT))
        try:
            await greet(connection, self._login, master=False)
            found = await connection.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master)
        finally:
            connection.drop("it has answered")
        if not found:
            text = f"{shown(address)}: it knows no master {self._master} (REDIS_SENTINEL_MASTER)"
            raise RedisAwayError(text, sent=False)
        return found[0].decode(), int(found[1])


def shown(address: Address) -> str:
    """Write an address for people."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
