"""The program that passes connections on: run by its path, it imports nothing of tvmbuild.

A client connects to its Unix socket, writes "HOST PORT SECONDS SILENCE", and reads "port N" or "error WORDS". The next
TCP connection to port N of this machine is passed on to HOST:PORT. Everything is closed when the client closes its end,
when the board has not greeted after SILENCE seconds, or after SECONDS, which the client is told by "expired". The
program ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys

CONNECT_SECONDS = 5.0
#: A client says at once where it wants to go.
LINE_SECONDS = 5.0
_BLOCK = 1 << 18
#: A server's greeting: this number, then the length of its key, then the key. Any other number is the whole of it.
_MAGIC, _MAX_KEY = 0xFF271, 4096


def acknowledge(source: socket.socket) -> None:
    """Acknowledge what comes at once from now on.

    TVM sends a message in pieces, each of which waits for the acknowledgement of the one before; the kernel would delay
    that by 40 ms, and forgets this option after a while.
    """
    with contextlib.suppress(OSError):
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: socket.socket) -> None:
    """Pass bytes on until either end closes."""
    with contextlib.suppress(OSError):
        while block := await reader.read(_BLOCK):
            acknowledge(source)
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def read_greeting(reader: asyncio.StreamReader) -> bytes:
    """Return a server's greeting, whole, or what it refuses with."""
    greeting = await reader.readexactly(4)
    if struct.unpack("<i", greeting)[0] != _MAGIC:
        return greeting
    length = await reader.readexactly(4)
    size = struct.unpack("<i", length)[0]
    if not 0 <= size <= _MAX_KEY:
        raise OSError("no greeting")
    return greeting + length + await reader.readexactly(size)


async def pump_answers(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: socket.socket, silence: float
) -> None:
    """Pass bytes on, unless the greeting is late: a board that hangs still lets the kernel accept connections."""
    try:
        writer.write(await asyncio.wait_for(read_greeting(reader), silence))
    except (OSError, EOFError, asyncio.TimeoutError):
        writer.close()
        return
    await pump(reader, writer, source)


def tune(writer: asyncio.StreamWriter) -> None:
    """Send small messages at once, and have the kernel find a peer without power or cable within a minute."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    acknowledge(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def serve(control: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    """Serve one client, from its line to its end."""
    try:
        line = await asyncio.wait_for(control.readline(), LINE_SECONDS)
        host, port, seconds, silence = line.decode().split()
        board = await asyncio.wait_for(asyncio.open_connection(host, int(port)), CONNECT_SECONDS)
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        answers.write(f"error {getattr(error, 'strerror', None) or 'no answer in time'}\n".encode())
        answers.close()
        return
    writers = [board[1], answers]
    tune(board[1])

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tune(writer)
        writers.append(writer)
        client, far = (end.get_extra_info("socket") for end in (writer, board[1]))
        await asyncio.gather(pump(reader, board[1], client), pump_answers(board[0], writer, far, float(silence)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    answers.write(f"port {server.sockets[0].getsockname()[1]}\n".encode())
    try:
        await asyncio.wait_for(control.read(), float(seconds))
    except asyncio.TimeoutError:
        answers.write(b"expired\n")
    server.close()
    for writer in writers:
        writer.close()


async def main(listener: socket.socket) -> None:
    """Serve until standard input ends."""
    server = await asyncio.start_unix_server(serve, sock=listener)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(socket.socket(fileno=int(sys.argv[1]))))
