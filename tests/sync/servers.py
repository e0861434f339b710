"""What the scripted server cannot do: a server that is a function over the raw socket."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import mailbridge

PATIENCE = 10.0
LOCK_STEP = ("SIZE 10485760", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "HELP")
"""Extensions for the scripted server that leave one command at a time, content by DATA."""
PIPELINING = ("250-raw.example", "250 PIPELINING")
"""What a raw server answers to EHLO."""
GRANTED = ("250 2.1.0 Ok", "250 2.1.5 Ok", "354 go on")
"""Its replies to a group of MAIL, RCPT and DATA."""


def close_by_reset(sock: socket.socket) -> None:
    """Close so that the other side gets a RST, whatever was not read yet."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Gone(Exception):
    """The client has closed the connection."""


class Peer:
    """The server's end of one connection. ``commands`` are the lines that came, without CRLF."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.commands: list[str] = []
        self.content = b""
        self._input = b""

    def say(self, *lines: str) -> None:
        """Send reply lines in one write."""
        self.send("".join(f"{line}\r\n" for line in lines).encode())

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            if data.startswith(b"221"):
                return  # The client need not wait for the answer to QUIT.
            raise Gone from error

    def line(self) -> str:
        """The next line from the client."""
        while b"\n" not in self._input:
            self.receive()
        line, _, self._input = self._input.partition(b"\n")
        self.commands.append(line.decode().removesuffix("\r"))
        return self.commands[-1]

    def receive(self) -> None:
        """Take what comes next from the client."""
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self._input += data

    @property
    def has_more(self) -> bool:
        """True if the client wrote something behind the last line that was taken."""
        return bool(self._input)

    def until(self, verb: str, *, ehlo: tuple[str, ...] = ("250 raw.example",)) -> str:
        """Greet if need be and answer commands kindly; return the first line with ``verb``."""
        if not self.commands and verb != "GREETING":
            self.say("220 raw.example ESMTP")
        while True:
            line = self.line()
            word = line.split(" ")[0].upper()
            if word == verb:
                return line
            if word == "EHLO":
                self.say(*ehlo)
            elif word == "DATA":
                self.say("354 go on")
                self.read_content()
                self.say("250 2.0.0 Ok")
            else:
                self.say("221 2.0.0 Bye" if word == "QUIT" else "250 2.0.0 Ok")

    def read_content(self) -> bytes:
        """Everything up to the final dot, as it came over the wire."""
        wire, seen = bytearray(b"\r\n" + self._input), 0
        self._input = b""
        while (end := wire.find(b"\r\n.\r\n", seen)) < 0:
            seen = max(0, len(wire) - 4)
            self.receive()
            wire += self._input
            self._input = b""
        self._input = bytes(wire[end + 5 :])
        self.content = bytes(wire[2:end]) + b"\r\n" if end else b""
        return self.content

    def read(self, size: int) -> bytes:
        """So many octets, as of a BDAT."""
        while len(self._input) < size:
            self.receive()
        data, self._input = self._input[:size], self._input[size:]
        return data

    def skip(self, size: int) -> int:
        """So many octets, none of which is kept. Returns their number."""
        left = size
        while left:
            if not self._input:
                self.receive()
            left, self._input = max(0, left - len(self._input)), self._input[left:]
        return size

    def skip_content(self) -> int:
        """Everything up to the final dot, none of it kept. Returns the number of octets."""
        octets, tail = 0, b"\r\n"
        while not tail.endswith(b"\r\n.\r\n"):
            if not self._input:
                self.receive()
            octets += len(self._input)
            tail, self._input = (tail + self._input)[-5:], b""
        return octets

    def stop_talking(self) -> None:
        """Close this direction only."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the client gets a RST, whatever it has not read yet."""
        close_by_reset(self.sock)

    def wait_for_close(self) -> None:
        """Read and forget until the client has gone."""
        with contextlib.suppress(Gone):
            while True:
                self._input = b""
                self.receive()

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.sock = context.wrap_socket(self.sock, server_side=True)


def leave(peer: Peer) -> None:
    """Close the connection without a word."""
    raise Gone


def reset(peer: Peer) -> None:
    """Close it so that the client gets a RST."""
    peer.reset()
    raise Gone


def drip(peer: Peer) -> None:
    """A reply without end, a line each tenth of a second, until the client has gone."""
    peer.sock.settimeout(0.1)
    while True:
        peer.say("250-Ok")
        with contextlib.suppress(TimeoutError):
            if not peer.sock.recv(1):
                raise Gone


class RawServer:
    """Runs ``dialogue(peer)`` in a thread for each connection, and closes it at the end.

    ``dialogues`` are used in turn, the last one again and again. ``peers`` are the connections so
    far. What a dialogue raises beyond Gone and ConnectionError is raised when the server ends.
    """

    host = "127.0.0.1"

    def __init__(self, *dialogues: Callable[[Peer], None], receive_buffer: int | None = None):
        self._dialogues = dialogues
        self._socket = socket.socket()
        if receive_buffer is not None:  # inherited by what is accepted
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.bind((self.host, 0))
        self._socket.listen()
        self.port: int = self._socket.getsockname()[1]
        self.peers: list[Peer] = []
        self._closed = threading.Semaphore(0)
        self._bugs: list[Exception] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        return f"smtp://{self.host}:{self.port}?tls=none&timeout=5"

    def wait_until_closed(self, connections: int = 1) -> None:
        """Block until so many connections have come to their end, and their commands are known."""
        mailbridge.close_pools()  # what is kept for the next mail is open still
        for _ in range(connections):
            assert self._closed.acquire(timeout=PATIENCE), "the connection was never closed"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE)
        self._socket.close()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        if self._bugs and error is None:
            raise ExceptionGroup("in the raw server", self._bugs)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._socket.accept()
                sock.settimeout(PATIENCE)
                # As servers have it; a reply of several writes would wait for the client's ACK.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer = Peer(sock)
                self.peers.append(peer)
                thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, peer: Peer) -> None:
        number = min(self.peers.index(peer), len(self._dialogues) - 1)
        try:
            self._dialogues[number](peer)
        except (Gone, ConnectionError):
            pass  # a client that leaves with something unread resets the connection
        except Exception as bug:
            self._bugs.append(bug)
        finally:
            peer.sock.close()
            self._closed.release()
