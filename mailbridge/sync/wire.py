"""A session on a socket: octets in and out, TLS, and what the kernel has taken.

The socket is non-blocking; every wait is a `poll` with a deadline for the whole phase, so a
server that drips octets does not extend it. Reading goes on while writing.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable

from ..deadline import Deadline, shortest
from ..errors import ConnectTimeout, Disconnected, MailError
from ..link import Link
from ..protocol.command import Quit
from ..protocol.content import PIECE
from ..tls import handshake_error, inspect
from .connect import open_socket
from .wait import READ, WRITE, Waiter

# Large enough that a block costs one system call, small enough that a stalled reader shows.
BLOCK = 64 * 1024
_WANT_READ = (BlockingIOError, InterruptedError, ssl.SSLWantReadError)
LATER = (*_WANT_READ, ssl.SSLWantWriteError)


class Wire(Link):
    """A session and, once `connect` was called, its socket."""

    sock: socket.socket | None = None
    _waiter: Waiter | None = None

    def connect(
        self,
        host: str,
        port: int,
        source_address: tuple[str, int] | None = None,
        limit: Deadline | None = None,
    ) -> socket.socket:
        """Connect the socket. Raises ConnectError; then nothing is left open."""

        def own(sock: socket.socket) -> None:
            self.sock = sock

        try:
            patience = shortest(self.timeouts.connect, limit)
            sock = open_socket(host, port, patience, source_address, own)
            sock.setblocking(False)
        except ConnectTimeout as exc:
            self.close()
            self._blame(exc, limit)
            raise
        except BaseException:
            self.close()
            raise
        return sock

    @property
    def open(self) -> bool:
        """False once the socket is closed."""
        return self.sock is not None

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS of the connection, None without."""
        return self.sock if isinstance(self.sock, ssl.SSLSocket) else None

    def alive(self) -> bool:
        """False if the server has closed the connection, or said anything unasked."""
        if self.session.idle:
            self.look()
            self._looked = True
        self._keep_session()
        return self.sock is not None and self.session.usable and not self.session.has_input

    def flush(self) -> None:
        """Write what the session has to send, without waiting for an answer."""
        try:
            self._write()
        except MailError:
            self.close()
            raise

    def leave(self) -> None:
        """QUIT and close, without waiting for the answer: nobody needs it."""
        if self.session.usable:
            with contextlib.suppress(MailError):
                self.session.send(Quit())
                self.flush()
        self.close()

    def close(self) -> None:
        """Close the socket at once. Nothing is said to the server."""
        self._keep_session()
        self.session.abandon("the connection was closed")
        sock, self.sock, self._waiter = self.sock, None, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    # Reading.

    def _read(self, deadline: float | None, seconds: float | None) -> None:
        session, sock = self.session, self.sock or self._connected()
        if not (self._holds_octets() or self._wait(READ, deadline)):
            raise self._timed_out(seconds, "for the server's reply")
        while True:
            try:
                session.receive_data(sock.recv(BLOCK))
                return
            except _WANT_READ:
                if not self._wait(READ, deadline):
                    raise self._timed_out(seconds, "for the server's reply") from None
            except ssl.SSLWantWriteError:
                self._wait(WRITE, deadline)
            except ssl.SSLEOFError:
                # The server left without TLS's good-bye, as many do.
                session.receive_data(b"")
                return
            except OSError as exc:
                raise self._lost(exc) from exc

    def _holds_octets(self) -> bool:
        """True if there is something to read that the socket does not show any more."""
        # OpenSSL reads no further than to the end of a record. To wait before one reads costs less
        # than to read in vain.
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def look(self) -> None:
        """Take what has arrived already: a 421, the end of the connection, or nothing."""
        if self.sock is None or not (self._holds_octets() or self._wait(READ, 0.0)):
            return
        try:
            self.session.receive_data(self.sock.recv(BLOCK))
        except LATER:
            return
        except OSError:
            self.session.receive_data(b"")

    # Writing.

    def _write(self) -> bool:
        """Write what the session has. Stops where the server has closed or answered already."""
        session, wrote = self.session, False
        # A server may cut content short, or refuse it in the middle.
        watchful = session.may_be_cut_short
        while data := session.data_to_send():
            for block in (data,) if len(data) <= BLOCK else _blocks(data):
                if watchful or block is not data:
                    self.look()
                wrote = self._write_block(block)
                if not wrote:
                    session.stop_writing()
                    return True
            if len(data) < PIECE:
                return wrote  # That was all.
            watchful = session.may_be_cut_short
        return wrote

    def _write_block(self, block: bytes | memoryview) -> bool:
        """Write `block`, and read while it cannot be written. False if nobody reads any more."""
        session, sock = self.session, self.sock or self._connected()
        deadline, waited = None, False
        while block:
            if session.eof or (session.has_input and session.answered_early):
                return False
            session.sending(len(block))
            try:
                written = sock.send(block)
            except ssl.SSLWantReadError:
                event = READ
            except (BlockingIOError, InterruptedError, ssl.SSLWantWriteError):
                event = READ | WRITE
            except OSError as exc:
                self._write_failed(exc)
                return False
            else:
                session.sent(written)
                if written == len(block):
                    return True
                block = memoryview(block)[written:]
                continue
            session.sent(0)
            if not waited:
                # One time-out for each block (RFC 5321 section 4.5.3.2.5), however it is dribbled
                # away.
                deadline, waited = self._after(self.timeouts.reply), True
            ready = self._wait(event, deadline)
            if not ready:
                raise self._timed_out(self.timeouts.reply, "for the server to read")
            if ready & READ:
                self.look()
        return True

    def _write_failed(self, error: OSError) -> None:
        # The server may have said why before it hung up; that is worth more than "broken pipe".
        with contextlib.suppress(MailError):
            self._read(self._after(1.0), 1.0)
        if not self.session.has_input:
            raise self._lost(error) from error
        self.session.receive_data(b"")

    # TLS.

    def handshake(self) -> None:
        """Wrap the socket in TLS. Raises TLSError or CertificateError, and the socket is closed."""
        context = self._context()
        deadline = self._after(self.timeouts.connect)
        try:
            plain = self._connected()
            # If it was reset already: `wrap_socket` would take it, fail, and leave it open.
            plain.getpeername()
            self.sock = sock = context.wrap_socket(
                plain,
                do_handshake_on_connect=False,
                server_hostname=self.server_hostname,
                session=self._session_to_resume(),
            )
            while True:
                try:
                    sock.do_handshake()
                    self.session.channel = inspect(sock, self.host, self.pins)
                    return
                except ssl.SSLWantReadError:
                    event = READ
                except ssl.SSLWantWriteError:
                    event = WRITE
                if not self._wait(event, deadline):
                    raise self._handshake_timed_out()
        except (MailError, OSError, ValueError) as exc:
            self.close()
            if isinstance(exc, MailError):
                raise
            raise handshake_error(exc) from exc
        except BaseException:
            self.close()
            raise

    def _keep_session(self) -> None:
        # Not before it is asked for again, or over: a process that sends one mail resumes nothing.
        if self._sessions is not None and self.tls is not None:
            self._keep(self.tls)

    # Errors.

    def _connected(self) -> socket.socket:
        if self.sock is None:
            raise Disconnected("please run connect() first")
        return self.sock

    def _wait(self, events: int, deadline: float | None) -> int:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        return self._wait_for(events, left)

    def _wait_for(self, events: int, seconds: float | None) -> int:
        if self._waiter is None:
            self._waiter = Waiter(self._connected())
        return self._waiter.wait(events, seconds)

    def _after(self, seconds: float | None) -> float | None:
        """The moment in so many seconds, or the limit if that is sooner."""
        end = None if seconds is None else time.monotonic() + seconds
        if self._limit is None:
            return end
        return self._limit.at if end is None else min(end, self._limit.at)


def _blocks(data: bytes) -> Iterable[memoryview]:
    view = memoryview(data)
    return (view[start : start + BLOCK] for start in range(0, len(view), BLOCK))
