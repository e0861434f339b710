"""ReplayServer: a ScriptedPeer on a real port, for one client; it repeats a recorded session."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from .peer import ScriptedPeer

# For the client to connect, and for each thing that it says.
_PATIENCE: Final = 3.0
_JOIN_TIMEOUT: Final = 30.0


class ReplayServer:
    """Listens, accepts one client, and goes through a script with it, in a thread.

    `script` is a ScriptedPeer, or its script as a text or a file: one that a `Recording` has
    saved. `tls_context` is for the handshakes in it; raises ValueError if it is missing. `users`
    (names to passwords) says how a client may log in; whatever password it sends is taken.
    Leaving the ``with`` block raises AssertionError if the client left the script.
    """

    def __init__(
        self,
        script: ScriptedPeer | str | Path,
        *,
        tls_context: ssl.SSLContext | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(script, Path):
            script = script.read_text("utf-8")
        self.peer = ScriptedPeer(script) if isinstance(script, str) else script
        if self.peer.has_tls and tls_context is None:
            raise ValueError("there is a TLS handshake in the script: give a tls_context")
        self._tls_context = tls_context
        self._users = users or {}
        self._failure: BaseException | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_PATIENCE)
        self.host = "127.0.0.1"
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="replay-server", daemon=True)

    @property
    def url(self) -> str:
        """``smtp://``, host and port."""
        return f"smtp://{self.host}:{self.port}"

    def relay_options(self) -> dict[str, Any]:
        """What `mailbridge.Relay.from_options` needs to send here: host, port, TLS and a login."""
        tls = "starttls" if self.peer.has_tls else "none"
        options = {"host": self.host, "port": self.port, "tls": tls}
        for username, password in self._users.items():
            return options | {"username": username, "password": password}
        return options

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.join(_JOIN_TIMEOUT)
        if self._thread.is_alive():
            raise RuntimeError("the replay does not end")
        if isinstance(self._failure, AssertionError):
            raise self._failure from error
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            with self._listener:
                sock = self._listener.accept()[0]
            self._run(sock)
            self.peer.finish()
        except BaseException as failure:
            self._failure = failure

    def _run(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(_PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while self._talk(sock):
                assert self._tls_context is not None
                sock = self._tls_context.wrap_socket(sock, server_side=True)
        finally:
            sock.close()

    def _talk(self, sock: socket.socket) -> bool:
        """Go through the script up to a handshake, which is True, or to the end."""
        while True:
            try:
                while self.peer.speaks:
                    data = self.peer.data_to_send()
                    if not data:
                        self._hang_up(sock)
                        return False
                    sock.sendall(data)
                if self.peer.begins_tls():
                    return True
                data = sock.recv(65536)
            except ConnectionError:
                return False
            if not data:
                return False
            self.peer.receive(data)

    def _hang_up(self, sock: socket.socket) -> None:
        # Closing with unread octets would reset the connection and take our last reply with it.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
