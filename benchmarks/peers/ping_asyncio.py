# SPDX-License-Identifier: MIT
"""A peer for bench_api.py: asyncio's streams and the standard library's json answer ping."""

from __future__ import annotations

import asyncio
import json
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each object, which has to arrive in one piece."""
    while data := await reader.read(65536):
        assert "ping" in json.loads(data)
        answer = {"status": "success", "data": None, "message": "pong"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main() -> None:
    """Listen."""
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
