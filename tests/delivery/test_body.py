# SPDX-License-Identifier: MIT
"""The body goes out in chunks, in step with the transport, and the dot comes last."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from smtpmailer.delivery.body import CHUNK, BodyWriter

WIRE = b"x" * (3 * CHUNK) + b"\r\n"


class _Transport:
    """Pauses its producer after each write, and may take everything at once before returning."""

    def __init__(self, *, eager: bool) -> None:
        self.eager = eager
        self.written: list[bytes] = []
        self.producer: Any = None
        self.producers = 0
        self.depth = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: FBT001
        assert streaming
        self.producer = producer
        self.producers += 1

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.producer is not None:
            self.producer.pauseProducing()
            if self.eager:
                assert self.depth == 0, "writes inside of writes end in a RecursionError"
                self.depth += 1
                self.producer.resumeProducing()
                self.depth -= 1


class BodyWriterTests(SynchronousTestCase):
    """A push producer of its own."""

    def start(self, wire: bytes, *, eager: bool = False) -> tuple[BodyWriter, _Transport]:
        self.progress: list[int] = []
        self.ends: list[int] = []
        self.done: list[int] = []
        transport = _Transport(eager=eager)
        writer = BodyWriter(
            wire,
            b".\r\n",
            transport,
            progress=lambda: self.progress.append(len(transport.written)),
            last=lambda: self.ends.append(len(transport.written)),
            done=lambda: self.done.append(len(transport.written)),
        )
        writer.start()
        return writer, transport

    def test_it_is_a_push_producer(self) -> None:
        writer, _ = self.start(WIRE)
        self.assertTrue(verifyObject(IPushProducer, writer))

    def test_a_small_message_is_one_write_with_the_dot(self) -> None:
        writer, transport = self.start(b"hello\r\n")
        self.assertEqual(transport.written, [b"hello\r\n.\r\n"])
        self.assertEqual((transport.producer, writer.ended, self.done), (None, True, [1]))

    def test_a_large_one_waits_whenever_the_transport_is_full(self) -> None:
        writer, transport = self.start(WIRE)
        for chunks in (1, 2, 3):
            self.assertEqual(len(transport.written), chunks)
            self.assertEqual(self.ends, [])
            writer.resumeProducing()
        self.assertEqual(b"".join(transport.written), WIRE + b".\r\n")
        self.assertEqual(self.ends, [3], "told right before the write that holds the dot")
        self.assertEqual(self.progress, [0, 1, 2, 3])
        self.assertIsNone(transport.producer)

    def test_a_transport_that_resumes_inside_a_write_gets_each_chunk_once(self) -> None:
        _, transport = self.start(WIRE, eager=True)
        self.assertEqual(b"".join(transport.written), WIRE + b".\r\n")

    def test_nothing_is_written_after_the_connection_or_the_wish_is_gone(self) -> None:
        for end in (BodyWriter.stopProducing, BodyWriter.abandon):
            writer, transport = self.start(WIRE)
            end(writer)
            writer.resumeProducing()
            self.assertEqual(len(transport.written), 1)
            self.assertEqual(self.ends, [])
