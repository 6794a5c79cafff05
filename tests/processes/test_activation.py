# SPDX-License-Identifier: MIT
"""Tests for smtpmailer.processes.activation; a socket that fits is in the integration tests."""

from __future__ import annotations

import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.errors import SettingsError
from smtpmailer.processes import activation
from smtpmailer.processes.activation import take_socket


class ActivationTests(SynchronousTestCase):
    """What systemd may have passed."""

    def take(self, passed: socket.socket | None, **environ: str) -> socket.socket | None:
        """Take it, as if ``passed`` were the first descriptor."""
        if passed is not None:
            self.patch(activation, "_FIRST", os.dup(passed.fileno()))
        self.environ = dict(environ)
        found = take_socket(self.environ, 7)
        if found is not None:
            self.addCleanup(found.close)
        return found

    def test_nothing_is_taken_that_was_not_passed_to_this_process(self) -> None:
        for environ in (
            {},
            {"LISTEN_FDS": "1"},
            {"LISTEN_PID": "8", "LISTEN_FDS": "1"},
            {"LISTEN_PID": "7", "LISTEN_FDS": "0"},
            {"LISTEN_PID": "7", "LISTEN_FDS": "x"},
        ):
            self.assertIsNone(self.take(None, **environ), environ)

    def test_a_listening_socket_is_taken_for_us_alone(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as passed:
            found = self.take(passed, LISTEN_PID="7", LISTEN_FDS="1", LISTEN_FDNAMES="x", A="b")
            assert found is not None
            self.assertEqual(found.getsockname(), passed.getsockname())
            self.assertFalse(found.get_inheritable())
            self.assertFalse(found.getblocking())
        self.assertEqual(self.environ, {"A": "b"})

    def test_more_than_one_is_a_fault(self) -> None:
        fault = self.assertRaises(SettingsError, self.take, None, LISTEN_PID="7", LISTEN_FDS="2")
        self.assertIn("2 sockets", str(fault))

    def test_one_of_another_kind_is_a_fault(self) -> None:
        for passed in (
            socket.socket(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            socket.socket(socket.AF_UNIX),
        ):
            with passed, self.assertRaises(SettingsError):
                self.take(passed, LISTEN_PID="7", LISTEN_FDS="1")
            os.close(activation._FIRST)

    def test_none_at_all_is_a_fault(self) -> None:
        self.patch(activation, "_FIRST", os.open("/dev/null", os.O_RDONLY))
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": "1"}
        self.assertRaises(SettingsError, take_socket, environ, 7)
        os.close(activation._FIRST)
