"""A TCP proxy that counts round trips, and can be far away.

    python -m benchmarks.proxy '{"host": "127.0.0.1", "port": 2525, "delay": 0.02}'

It writes ``{"port": ...}`` and listens there on loopback. `delay` is in seconds for each
direction. A line ``{"do": "counts"}`` is answered with ``{"connections": n, "flights": n}`` since
the last ``{"do": "reset"}``. It ends with its standard input.

The rule. A flight is everything that a client sends before it hears from the server again; each
costs a round trip, and so they are counted as one, whether the client then waits or leaves:

* Connecting is two flights. The first is SYN. The second begins with the ACK that completes TCP's
  handshake: only with that does the server know, and send its greeting. What the client sends
  before the server has spoken (the ClientHello of implicit TLS) belongs to the second.
* From then on a flight begins with the first octets from the client after octets were delivered
  to it. A TLS handshake counts like any other data; the client's Finished and what follows it
  without waiting is one flight.
* Closing the connection is none.

So ``connect, EHLO, MAIL, RCPT, DATA, content, QUIT`` in lock-step is 2 + 6 = 8, with STARTTLS,
the handshake (two flights, the second shared with EHLO) and AUTH PLAIN 12, and with implicit TLS
and AUTH PLAIN 10.

Octets from the server are counted as heard when they are delivered, after the delay. With a delay
above zero a client that writes a group in several pieces is seen as what it is, one flight; with
no delay an answer to the first piece could come in between. TLS servers that send session tickets
of their own accord need a delay for the same reason.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import deque
from typing import Any

from benchmarks.process import answer_from_loop, say

# Octets on their way in one direction before the sender has to wait.
FULL = 64 * 2**20


class Counter:
    """What all connections of a proxy have done since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew. Connections that are open stay open."""
        self.connections = 0
        self.flights = 0


class Direction:
    """One direction of a connection: what comes in goes out in order, `delay` seconds later."""

    def __init__(self, delay: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.not_before = 0.0
        self.source: asyncio.Transport | None = None
        self.target: asyncio.Transport | None = None

    def put(self, data: bytes | None) -> None:
        """Take octets in, or None for the end of them."""
        due = max(self._loop.time(), self.not_before) + self._delay
        self._queue.append((due, data))
        self._size += len(data or b"")
        if self._size > FULL and self.source is not None:
            self.source.pause_reading()
        self.flush()

    def flush(self) -> None:
        """Send on what is due, and come back for the rest."""
        if self.target is None:
            return
        while self._queue and self._queue[0][0] <= self._loop.time():
            _, data = self._queue.popleft()
            if data is None:
                self.target.close()
                return
            self._size -= len(data)
            self.heard()
            self.target.write(data)
        if self.source is not None and self._size <= FULL and not self.source.is_closing():
            self.source.resume_reading()
        if self._queue and self._timer is None:
            self._timer = self._loop.call_at(self._queue[0][0], self._again)

    def _again(self) -> None:
        self._timer = None
        self.flush()

    def heard(self) -> None:
        """Called whenever octets are delivered."""


class ToClient(Direction):
    """The server's words. When they are delivered, the client's flight is over."""

    in_flight = True

    def heard(self) -> None:
        self.in_flight = False


class ClientSide(asyncio.Protocol):
    """The connection from the client."""

    def __init__(self, host: str, port: int, delay: float, counter: Counter) -> None:
        self._address = (host, port)
        self._delay = delay
        self._counter = counter

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        no_delay(transport)
        self._counter.connections += 1
        self._counter.flights += 2
        loop = asyncio.get_running_loop()
        self.up, self.down = Direction(self._delay), ToClient(self._delay)
        self.up.source = self.down.target = transport
        # SYN and its answer have crossed when the client goes on, and the ACK is one way more.
        self.up.not_before = loop.time() + 2 * self._delay
        self._task = loop.create_task(self._connect(3 * self._delay))

    async def _connect(self, after: float) -> None:
        await asyncio.sleep(after)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: ServerSide(self), *self._address)
        except OSError:
            if self.down.target is not None:
                self.down.target.abort()

    def data_received(self, data: bytes) -> None:
        if not self.down.in_flight:
            self.down.in_flight = True
            self._counter.flights += 1
        self.up.put(data)

    def eof_received(self) -> bool:
        return True  # What the server still says is delivered.

    def connection_lost(self, exc: Exception | None) -> None:
        self.down.target = None
        self.up.put(None)


class ServerSide(asyncio.Protocol):
    """The connection to the server."""

    def __init__(self, client: ClientSide) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        no_delay(transport)
        self._client.up.target = self._client.down.source = transport
        self._client.up.flush()

    def data_received(self, data: bytes) -> None:
        self._client.down.put(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.up.target = None
        self._client.down.put(None)


def no_delay(transport: asyncio.Transport) -> None:
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def main(options: dict[str, Any]) -> None:
    loop = asyncio.new_event_loop()
    counter = Counter()

    def client() -> ClientSide:
        return ClientSide(options["host"], options["port"], options.get("delay", 0.0), counter)

    def counts() -> None:
        say({"connections": counter.connections, "flights": counter.flights})

    def answer(question: dict[str, Any]) -> None:
        if question["do"] == "reset":
            counter.reset()
        # The last word of a client that did not wait may still be in the socket.
        loop.call_later(0.02, counts)

    server = loop.run_until_complete(loop.create_server(client, "127.0.0.1", 0))
    answer_from_loop(loop, answer)
    say({"port": server.sockets[0].getsockname()[1]})
    loop.run_forever()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
