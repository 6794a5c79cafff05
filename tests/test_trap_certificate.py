# SPDX-License-Identifier: MIT
"""Tests of the mail trap's self-made certificate."""

from __future__ import annotations

import ssl
import stat
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from smtpmailer.trap_certificate import CertificateFiles, self_made_certificate

DAY = 86400.0


def handshake(files: CertificateFiles, host: str) -> None:
    """Shake hands in memory, the client as strict as it can be; raises ssl.SSLError."""
    client = ssl.create_default_context(cafile=str(files.ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(down, up, server_hostname=host)
    far = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    near.getpeercert()


class CertificateTests(SynchronousTestCase):
    """A certificate that a strict client takes, made once."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.now = time.time()

    def test_clients_that_trust_the_authority_take_it(self) -> None:
        files = self_made_certificate(self.directory, self.now, "192.0.2.7")
        for host in ("localhost", "127.0.0.1", "::1", "192.0.2.7"):
            handshake(files, host)

    def test_it_names_nobody_else(self) -> None:
        files = self_made_certificate(self.directory, self.now)
        self.assertRaises(ssl.SSLCertVerificationError, handshake, files, "example.test")

    def test_it_is_made_once(self) -> None:
        first = self_made_certificate(self.directory, self.now).certificate.read_bytes()
        again = self_made_certificate(self.directory, self.now + 300 * DAY)
        self.assertEqual(again.certificate.read_bytes(), first)

    def test_it_is_made_anew_where_it_does_not_serve(self) -> None:
        """Before it ends, for another address, and when a file is broken."""
        files = self_made_certificate(self.directory, self.now)
        first = files.certificate.read_bytes()
        self_made_certificate(self.directory, self.now + 360 * DAY)
        second = files.certificate.read_bytes()
        self_made_certificate(self.directory, self.now + 360 * DAY, "192.0.2.7")
        third = files.certificate.read_bytes()
        files.key.write_text("broken")
        self_made_certificate(self.directory, self.now + 360 * DAY, "192.0.2.7")
        self.assertEqual(len({first, second, third, files.certificate.read_bytes()}), 4)

    def test_the_key_is_its_owner_s(self) -> None:
        files = self_made_certificate(self.directory, self.now)
        self.assertEqual(stat.S_IMODE(files.key.stat().st_mode), 0o600)
