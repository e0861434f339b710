"""One accepted connection as lines and octets: buffering, TLS, deadlines, and how it is closed."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from typing import Any, Final

# RFC 4954 section 4: lines of 12288 octets must be accepted during AUTH. Nothing needs more.
MAX_LINE: Final = 12288
_CHUNK: Final = 65536


class Disconnected(Exception):
    """The client has gone: closed, reset, failed its handshake, or does not read."""


class Channel:
    """A socket with a line buffer.

    Replies are gathered until the client is to be read again, so that a pipelined group of commands
    is answered in one write (RFC 2920 section 3.2). Only the thread that serves the connection
    uses it, except for ``interrupt``.
    """

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = False
        self._socket = sock
        self._swap = threading.Lock()
        self._interrupted = False
        self._input = bytearray()
        self._output = bytearray()

    # -- reading

    def read_line(self) -> bytes:
        """The next line with its LF; the first MAX_LINE + 2 octets of one that is longer.

        Raises Disconnected, or TimeoutError when the client has been idle for too long.
        """
        searched = 0
        while (end := self._input.find(b"\n", searched)) < 0:
            # Enough is kept of an endless line to know that it was too long.
            searched = min(len(self._input), MAX_LINE + 2)
            del self._input[searched:]
            self._fill()
        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        return line[: MAX_LINE + 2]

    def read_some(self, limit: int = _CHUNK) -> bytes:
        """Between 1 and ``limit`` octets. Raises as ``read_line`` does."""
        if not self._input:
            self._fill()
        data = bytes(self._input[:limit])
        del self._input[:limit]
        return data

    def unread(self, data: bytes) -> None:
        """Put ``data`` back, to be read next."""
        self._input[:0] = data

    def wait_for_close(self) -> None:
        """Discard what comes, without any deadline, until the client or ``interrupt`` ends it."""
        self._socket.settimeout(None)
        with contextlib.suppress(Disconnected):
            while True:
                self._input.clear()
                self._fill()

    def _fill(self) -> None:
        self.flush()
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            raise
        except OSError as error:
            raise Disconnected(str(error)) from error
        if not data:
            raise Disconnected("closed by the client")
        self._input += data

    # -- writing

    def write(self, data: bytes) -> None:
        """Send ``data`` at the latest before the next read."""
        self._output += data
        if len(self._output) >= _CHUNK:
            self.flush()

    def flush(self) -> None:
        """Send now what was written. Raises Disconnected."""
        data, self._output = self._output, bytearray()
        if not data:
            return
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Disconnected(str(error)) from error

    # -- the connection itself

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Do the server's side of a handshake. Raises Disconnected when it fails.

        Octets that came before it are forgotten: they were not sent under TLS (RFC 3207
        section 4.2).
        """
        self.flush()
        self._input.clear()
        try:
            with self._swap:
                if self._interrupted:
                    raise Disconnected("stopped")
                # Of a client that has left already, wrap_socket would leave the socket open.
                self._socket.getpeername()
                tls = context.wrap_socket(
                    self._socket, server_side=True, do_handshake_on_connect=False
                )
                self._socket = tls
            tls.do_handshake()
        except OSError as error:
            raise Disconnected(f"TLS handshake failed: {error}") from error
        self.tls = True

    @property
    def client_name(self) -> str | None:
        """The name in the client certificate: the first alternative one, else the common one."""
        certificate = (
            self._socket.getpeercert() if isinstance(self._socket, ssl.SSLSocket) else None
        )
        names: Any = certificate or {}
        for _, name in names.get("subjectAltName", ()):
            return str(name)
        common = (v for entry in names.get("subject", ()) for k, v in entry if k == "commonName")
        return next(common, None)

    def bindings(self, certificate: bytes | None) -> dict[str, bytes]:
        """The channel bindings of RFC 5929 by type; ``certificate`` is the server's own."""
        found = {}
        if isinstance(self._socket, ssl.SSLSocket):
            if unique := self._socket.get_channel_binding("tls-unique"):
                found["tls-unique"] = unique
            if certificate:
                # trustme signs with SHA-256, which is what RFC 5929 then asks for.
                found["tls-server-end-point"] = hashlib.sha256(certificate).digest()
        return found

    def interrupt(self) -> None:
        """End the connection from another thread: whatever blocks on it returns at once."""
        with self._swap, contextlib.suppress(OSError):
            self._interrupted = True
            # Not SSLSocket.shutdown, which would take the TLS state from under the other thread.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self, *, notify: bool) -> None:
        """Send what is left and close; with ``notify`` say so under TLS, else as a crash does."""
        with contextlib.suppress(Disconnected):
            self.flush()
        with contextlib.suppress(OSError):
            self._socket.settimeout(0)
            if notify and isinstance(self._socket, ssl.SSLSocket) and self.tls:
                with contextlib.suppress(OSError):
                    self._socket.unwrap()  # sends close_notify, does not wait for the client's
            self._discard_received()
        self._socket.close()

    def _discard_received(self) -> None:
        # To close with unread octets is a reset, which may overtake the last reply.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_WR)
            while socket.socket.recv(self._socket, _CHUNK):
                pass
