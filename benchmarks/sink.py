"""A fast SMTP server that takes everything and keeps nothing.

    python -m benchmarks.sink '{"extensions": ["PIPELINING", "CHUNKING"]}'

It writes ``{"port": ...}``, and ``"tls_port"`` for implicit TLS if `certificate` names a PEM file,
and listens there on loopback. ``{"do": "stats"}`` is answered with what it got since
``{"do": "reset"}``. It ends with its standard input. No session tickets are sent, so that round
trips can be counted exactly.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import sys
from collections.abc import Callable
from typing import Any, cast

from benchmarks.process import answer_from_loop, say

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 104857600", "CHUNKING", "DSN")
KEPT = 4
OK = b"250 2.0.0 Ok\r\n"


class Stats:
    """What arrived since the last reset."""

    def __init__(self) -> None:
        self.open = 0
        self.reset()

    def reset(self) -> None:
        """Begin anew. Connections that are open stay counted as open."""
        self.connections = self.messages = self.recipients = self.octets = self.logins = 0
        self.most_open = self.open


class Sink(asyncio.Protocol):
    """One connection. A state is a method that uses octets up and says whether to go on."""

    transport: asyncio.Transport

    def __init__(self, stats: Stats, extensions: list[str], context: ssl.SSLContext | None) -> None:
        self.stats = stats
        self.extensions = extensions
        self.context = context
        self.secure = False
        self.buffer = bytearray()
        self.replies: list[bytes] = []
        self.state: Callable[[], bool] = self.command
        self.chunk = 0
        self.last = False
        self.verbs: dict[bytes, Callable[[bytes], None]] = {
            b"EHLO": self.ehlo,
            b"RCPT": self.rcpt,
            b"DATA": self.data,
            b"BDAT": self.bdat,
            b"AUTH": self.auth,
            b"STAR": self.starttls,
            b"QUIT": self.quit,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it.
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.stats.connections += 1
        self.stats.open += 1
        self.stats.most_open = max(self.stats.most_open, self.stats.open)
        self.transport.write(b"220 sink.example.test ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.stats.open -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self.buffer and self.state():
            pass
        if self.replies:
            self.transport.write(b"".join(self.replies))
            self.replies.clear()

    # States.

    def handshake(self) -> bool:
        """What comes with the client's Finished waits until answers can be encrypted."""
        return False

    def command(self) -> bool:
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        verb = self.verbs.get(line[:4].upper())
        if verb is None:
            self.replies.append(OK)
        else:
            verb(line)
        return True

    def first_line(self) -> bool:
        """The beginning of content: an empty one is a lone dot."""
        self.state = self.content
        if self.buffer.startswith(b".\r\n"):
            del self.buffer[:3]
            self.taken()
        return True

    def content(self) -> bool:
        end = self.buffer.find(b"\r\n.\r\n")
        if end < 0:
            # The end may be cut anywhere, so its length less one is kept.
            self.stats.octets += max(0, len(self.buffer) - KEPT)
            del self.buffer[:-KEPT]
            return False
        self.stats.octets += end + 2
        del self.buffer[: end + 5]
        self.taken()
        return True

    def chunks(self) -> bool:
        octets = min(self.chunk, len(self.buffer))
        del self.buffer[:octets]
        self.chunk -= octets
        self.stats.octets += octets
        if self.chunk:
            return False
        if self.last:
            self.taken()
        else:
            self.state = self.command
            self.replies.append(OK)
        return True

    def secret(self) -> bool:
        """A line of AUTH LOGIN, or of AUTH PLAIN without an initial response."""
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        del self.buffer[: end + 2]
        self.chunk -= 1
        if self.chunk:
            self.replies.append(b"334 UGFzc3dvcmQ6\r\n")
        else:
            self.logged_in()
        return True

    def taken(self) -> None:
        self.state = self.command
        self.stats.messages += 1
        self.replies.append(b"250 2.0.0 Ok: queued as 1A2B3C4D\r\n")

    # Commands. All others are fine.

    def ehlo(self, line: bytes) -> None:
        offered = [*self.extensions, "AUTH PLAIN LOGIN", "ENHANCEDSTATUSCODES"]
        if self.context is not None and not self.secure:
            offered.append("STARTTLS")
        lines = ["sink.example.test", *offered]
        self.replies += [f"250-{text}\r\n".encode() for text in lines[:-1]]
        self.replies.append(f"250 {lines[-1]}\r\n".encode())

    def rcpt(self, line: bytes) -> None:
        self.stats.recipients += 1
        self.replies.append(OK)

    def data(self, line: bytes) -> None:
        self.state = self.first_line
        self.replies.append(b"354 Go ahead\r\n")

    def bdat(self, line: bytes) -> None:
        words = line.split()
        self.chunk, self.last = int(words[1]), len(words) > 2
        self.state = self.chunks
        if not self.chunk:
            self.chunks()

    def auth(self, line: bytes) -> None:
        words = line.split()
        if len(words) > 2 and words[1].upper() == b"PLAIN":
            self.logged_in()
            return
        self.chunk = 1 if len(words) > 2 or words[1].upper() == b"PLAIN" else 2
        self.state = self.secret
        self.replies.append(
            b"334 \r\n" if words[1].upper() == b"PLAIN" else b"334 VXNlcm5hbWU6\r\n"
        )

    def logged_in(self) -> None:
        self.state = self.command
        self.stats.logins += 1
        self.replies.append(b"235 2.7.0 Welcome\r\n")

    def starttls(self, line: bytes) -> None:
        if self.context is None or self.secure:
            self.replies.append(b"502 5.5.1 No TLS here\r\n")
            return
        self.replies.append(b"220 2.0.0 Go ahead\r\n")
        self.buffer.clear()
        self.state = self.handshake
        # The ClientHello is for the TLS layer that is to come.
        self.transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._start_tls)

    def _start_tls(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self._wrap())

    async def _wrap(self) -> None:
        assert self.context is not None
        loop = asyncio.get_running_loop()
        try:
            wrapped = await loop.start_tls(self.transport, self, self.context, server_side=True)
        except OSError:
            self.transport.abort()
            return
        if wrapped is not None:
            self.transport, self.secure, self.state = wrapped, True, self.command
            self.data_received(b"")

    def quit(self, line: bytes) -> None:
        self.replies.append(b"221 2.0.0 Bye\r\n")
        self.transport.write(b"".join(self.replies))
        self.replies.clear()
        self.buffer.clear()
        self.transport.close()


def event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's if it is there: it leaves more of the core to the client."""
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:
        return asyncio.new_event_loop()
    return loop


def main(options: dict[str, Any]) -> None:
    loop = event_loop()
    stats = Stats()
    extensions = options.get("extensions", list(EXTENSIONS))
    context: ssl.SSLContext | None = None
    if options.get("certificate"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options["certificate"])
        context.num_tickets = 0

    def listen(tls: ssl.SSLContext | None) -> int:
        def connection() -> Sink:
            return Sink(stats, extensions, context)

        coroutine = loop.create_server(connection, "127.0.0.1", 0, ssl=tls, backlog=1024)
        server = loop.run_until_complete(coroutine)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def answer(question: dict[str, Any]) -> None:
        if question["do"] == "reset":
            stats.reset()
        say(vars(stats))

    ports = {"port": listen(None)}
    if context is not None:
        ports["tls_port"] = listen(context)
    answer_from_loop(loop, answer)
    say(ports)
    loop.run_forever()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
