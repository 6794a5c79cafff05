# SPDX-License-Identifier: MIT
"""What goes to the kernel at once, and what waits for the reactor."""

from __future__ import annotations

from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import alsoProvides

from smtpmailer.outlet import Outlet
from tests.connections import KernelTransport


class OutletTests(SynchronousTestCase):
    """Over a transport as TCP has it, unless a test says otherwise."""

    def setUp(self) -> None:
        self.transport = KernelTransport(1000)
        self.outlet = Outlet(self.transport)

    def test_what_the_kernel_takes_does_not_wait_for_the_reactor(self) -> None:
        self.outlet.write(b"one")
        self.outlet.write(b"two")
        self.assertEqual((self.transport.value(), self.transport.waited), (b"onetwo", []))

    def test_the_rest_and_all_that_follows_goes_out_behind_it(self) -> None:
        self.transport.room = 2
        self.outlet.write(b"one")
        self.transport.room = 1000
        self.outlet.write(b"two")
        self.assertEqual(self.transport.waited, [b"e", b"two"])
        self.assertEqual(self.transport.value(), b"onetwo")

    def test_a_lost_connection_is_the_transport_s_to_find_out(self) -> None:
        self.transport.room = ConnectionError("gone")
        self.outlet.write(b"one")
        self.assertEqual(self.transport.waited, [b"one"])

    def test_once_left_to_the_transport_nothing_passes_it_by(self) -> None:
        self.outlet.leave()
        self.outlet.write(b"one")
        self.assertEqual(self.transport.waited, [b"one"])

    def test_under_tls_nothing_goes_past_the_layer_that_encrypts(self) -> None:
        alsoProvides(self.transport, ISSLTransport)
        Outlet(self.transport).write(b"secret")
        self.assertEqual(self.transport.waited, [b"secret"])

    def test_any_transport_will_do(self) -> None:
        transport = StringTransport()
        Outlet(transport).write(b"one")
        self.assertEqual(transport.value(), b"one")
