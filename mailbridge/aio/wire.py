"""A session on an asyncio transport: octets in and out, TLS, and what the kernel has taken.

The transport is given a block when it holds nothing, so how much has left is known at each moment:
it decides whether a mail whose connection is lost may be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from .. import forks
from ..deadline import Deadline, shortest
from ..errors import ConnectTimeout, Disconnected, MailError
from ..link import Link
from ..protocol.command import Quit
from ..protocol.content import PIECE
from ..tls import handshake_error, inspect
from .connect import SourceAddress, open_socket
from .events import Events
from .records import BLOCK, READ, Records, last_record
from .timer import Timer


class Wire(Link, Events, asyncio.BufferedProtocol, asyncio.Protocol):
    """A session and, once `connect` was called, its transport. Belongs to one event loop.

    As a protocol of both kinds it has asyncio read into its buffer, rather than make 256 KiB for
    each read.
    """

    sock: socket.socket | None = None
    _loop: asyncio.AbstractEventLoop
    _timer: Timer
    _pid = 0
    _transport: asyncio.Transport | None = None
    _records: Records | None = None
    # What is taken out of the session, and not written; octets that the transport holds.
    _blocks: deque[bytes | memoryview]
    _buffer: memoryview
    _held = 0
    _wrote = False
    _goes_on_soon = False

    async def connect(
        self,
        host: str,
        port: int,
        source_address: SourceAddress = None,
        limit: Deadline | None = None,
    ) -> socket.socket:
        """Connect. Raises ConnectError; then nothing is left open."""
        self._loop = loop = asyncio.get_running_loop()
        self._timer = Timer(loop, self._late)
        self._blocks = deque()
        self._buffer = memoryview(bytearray(READ))
        self._pid = os.getpid()
        try:
            patience = shortest(self.timeouts.connect, limit)
            sock = await open_socket(host, port, patience, source_address)
        except ConnectTimeout as exc:
            self._blame(exc, limit)
            raise
        unix = sock.family == getattr(socket, "AF_UNIX", None)
        create: Callable[..., Any] = loop.create_connection
        try:
            await (loop.create_unix_connection if unix else create)(lambda: self, sock=sock)
        except BaseException:
            self.close()
            sock.close()
            raise
        self.sock = sock
        return sock

    @property
    def open(self) -> bool:
        """False once it is closed."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS of the connection, None without."""
        return None if self._records is None else self._records.object

    def alive(self) -> bool:
        """False if the server has closed the connection, or said anything unasked."""
        self.look()
        self._looked = True
        return self.open and self.session.usable and not self.session.has_input

    def flush(self) -> None:
        """Write what the session has to send, without waiting for an answer."""
        self._connected()
        self._write()

    def leave(self) -> None:
        """QUIT and close, without waiting for the answer: nobody needs it."""
        transport = self._transport
        if transport is not None and not self._in_child() and self.session.usable:
            with contextlib.suppress(MailError, OSError):
                self.session.send(Quit())
                self._write()
            transport.close()
            self._transport = None
        self.close()

    def close(self) -> None:
        """Close the connection at once. Nothing is said to the server."""
        self._drop()
        self._fail(Disconnected("the connection was closed"))

    def _drop(self) -> None:
        self._leave_shortcut()
        self._count_held()
        self.session.abandon("the connection was closed")
        transport, self._transport = self._transport, None
        if self._pid == 0 or self._in_child():
            return
        self._timer.stop()
        if transport is not None:
            transport.abort()

    def keep_session(self) -> None:
        """Let the next connection resume this one's TLS. To be called when something was read."""
        if self._records is not None:
            self._keep(self._records.object)

    def _in_child(self) -> bool:
        """True in a forked child, which must not touch its parent's loop; the socket is let go."""
        if self._pid == os.getpid():
            return False
        if self.sock is not None:
            forks.let_go(self.sock)
        self.sock = None
        return True

    # Writing.

    def _write(self) -> bool:
        """Write what the session has, as far as it goes without waiting. True if that is all."""
        session, written, octets = self.session, 0, PIECE
        while not self._held:
            watchful = session.may_be_cut_short or bool(self._blocks)
            if self._blocks:
                block = self._blocks.popleft()
            else:
                if watchful and written and not self._goes_on_soon:
                    # A large content: what the server says is heard, and other tasks go on too.
                    self._goes_on_soon = True
                    self._loop.call_soon(self._soon)
                if self._goes_on_soon:
                    return False
                data = session.data_to_send()
                if not data:
                    return True
                octets = len(data)
                block = data if octets <= BLOCK else self._first_block(data)
            if watchful:
                # A server may cut content short, or refuse it in the middle.
                self.look()
            if session.eof or (session.has_input and session.answered_early):
                self._stop_writing()
                return not self._goes_on_soon
            written += len(block)
            self._put(block)
            if octets < PIECE:
                return not self._held  # That was all.
        return False

    def _first_block(self, data: bytes) -> memoryview:
        view = memoryview(data)
        self._blocks.extend(view[start : start + BLOCK] for start in range(BLOCK, len(view), BLOCK))
        return view[:BLOCK]

    def _soon(self) -> None:
        self._goes_on_soon = False
        self._go_on()

    def _put(self, block: bytes | memoryview) -> None:
        """Give the transport a block. What the kernel does not take at once is `_held`."""
        octets = len(block)
        self._wrote = True
        self.session.sending(octets)
        self._hand_over(block)
        self._count(octets)

    def _hand_over(self, block: bytes | memoryview) -> None:
        transport, records = self._transport or self._connected(), self._records
        if records is None:
            transport.write(block)
            return
        try:
            transport.write(records.sealed(block))
        except OSError as exc:
            raise self._lost(exc) from exc

    def _count(self, octets: int) -> None:
        """Note how much of a block of so many octets, given to the transport last, has left."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return  # It failed; `connection_lost` says why.
        left = transport.get_write_buffer_size()
        if left:
            # Of a record nothing can be read before its end is there; others may have left.
            self._held = min(left, octets) if self._records is None else last_record(octets)
            self.session.sent(octets - self._held)
            # One time-out for each block (RFC 5321 section 4.5.3.2.5).
            self._timer.set(shortest(self.timeouts.reply, self._limit))
        else:
            self.session.sent(octets)

    def _count_held(self) -> None:
        """Note what the kernel has taken in the meantime: the transport says so at the end only."""
        if self._held and self._records is None and self._transport is not None:
            held = min(self._held, self._transport.get_write_buffer_size())
            self.session.sent(self._held - held)
            self._held = held

    def _stop_writing(self) -> None:
        """Nobody will read it."""
        self.session.stop_writing()
        self._blocks.clear()
        self._held = 0
        self._wrote = True

    # What the transport tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected; `pause_writing` is never waited for, since the transport holds nothing."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        held, self._held = self._held, 0
        if held:
            self.session.sent(held)
        self._go_on()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop is to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The server has said something, and it is in the buffer."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """The server has said something."""
        if self._records is None:
            if self._held:
                self._count_held()
            self._receive(data)
            self._heard()
        else:
            self._records.received(data)
            self._read_records(self._records)

    def eof_received(self) -> None:
        """The server will say no more."""
        if self._records is None:
            self._count_held()
            self._receive(b"")
            self._go_on()
        else:
            self._records.hang_up()
            self._read_records(self._records)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed. The server may have said why before it hung up."""
        self._leave_shortcut()
        self._transport = None
        self._timer.stop()
        if self._records is not None and not self._records.established:
            lost = exc if isinstance(exc, OSError) else ConnectionError("the connection was closed")
            self._fail(handshake_error(lost))
            return
        if self._held:
            # How much of it has left is not known any more: not all, since that would be told.
            self.session.sending(self._held - 1)
        self.look()
        if isinstance(exc, OSError) and not (self.session.has_input or self.session.eof):
            self._fail(self._lost(exc))
            return
        self._receive(b"")
        self._go_on()

    def look(self) -> None:
        """Take what has arrived already: a 421, the end of the connection, or nothing."""
        if self.sock is None or self.session.eof:
            return
        try:
            data = self.sock.recv(BLOCK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._receive(b"")
        elif self._records is None:
            self._receive(data)
        else:
            self._records.received(data)
            with contextlib.suppress(OSError):
                self._unseal(self._records)

    # TLS.

    def _begin_tls(self) -> bool:
        """Begin the handshake. True if it is done. Raises TLSError or CertificateError."""
        self._connected()
        try:
            context, session = self._context(), self._session_to_resume()
            self._records = records = Records(context, self.server_hostname, session)
        except ValueError as exc:
            self._drop()
            raise handshake_error(exc) from exc
        self._timer.set(shortest(self.timeouts.connect, self._limit))
        return self._shake(records)

    def _shake(self, records: Records) -> bool:
        """Go on with the handshake. True when it is done. Raises TLSError or CertificateError."""
        try:
            try:
                done = records.handshake()
            finally:
                self._connected().write(records.to_send())
            if done:
                self.session.channel = inspect(records.object, self.host, self.pins)
                self._unseal(records)
        except (OSError, ValueError) as exc:
            error = exc if isinstance(exc, MailError) else handshake_error(exc)
            self._drop()
            raise error from exc
        return done

    def _read_records(self, records: Records) -> None:
        try:
            if records.established:
                self._unseal(records)
            elif not self._shake(records):
                return
        except MailError as exc:
            self._fail(exc)
        except OSError as exc:
            self._fail(self._lost(exc))
        else:
            self._heard()

    def _unseal(self, records: Records) -> None:
        """Hand on what came in TLS. Raises ssl.SSLError."""
        plain = records.plain()
        if plain:
            self._receive(plain)
        if records.eof:
            self._receive(b"")
        answer = records.to_send()
        if answer and self._transport is not None:
            self._transport.write(answer)
            # It may be all that the transport holds from now on.
            self.session.sending(self._held)

    def _lost(self, exc: OSError) -> Disconnected:
        self._leave_shortcut()
        return super()._lost(exc)

    def _connected(self) -> asyncio.Transport:
        if self._transport is None:
            raise Disconnected("please run connect() first")
        return self._transport
