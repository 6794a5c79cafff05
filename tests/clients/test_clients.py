# SPDX-License-Identifier: MIT
"""Runs the contract for the client in each language."""

from __future__ import annotations

from tests.clients.contract import ClientContract, OneCallContract
from tests.clients.languages import Go, Module, Script, Shell
from tests.integration.service import ServiceTestCase


class PythonTests(ClientContract, ServiceTestCase):
    """smtpmailer.client."""

    language = Module("sync")


class AsyncioTests(ClientContract, ServiceTestCase):
    """smtpmailer.client_asyncio."""

    language = Module("asynchronous")


class TwistedTests(ClientContract, ServiceTestCase):
    """smtpmailer.client_twisted."""

    language = Module("deferred")


class PhpTests(OneCallContract, ServiceTestCase):
    """clients/php."""

    language = Script(("php", "-d", "error_reporting=-1"), "driver.php")


class NodeTests(OneCallContract, ServiceTestCase):
    """clients/node."""

    language = Script(("node",), "driver.mjs")


class RubyTests(OneCallContract, ServiceTestCase):
    """clients/ruby."""

    language = Script(("ruby", "-w", "--disable-gems"), "driver.rb")


class GoTests(OneCallContract, ServiceTestCase):
    """clients/go."""

    language = Go()


class ShellTests(OneCallContract, ServiceTestCase):
    """clients/shell."""

    language = Shell()
