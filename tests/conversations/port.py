"""A ScriptedPeer on a real port, for one client."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from mailbridge.testing.peer import ScriptedPeer


class ScriptedPort:
    """Listens, accepts one client, and goes through the script with it, in a thread.

    Leaving the ``with`` block raises AssertionError if the client left the script.
    """

    def __init__(self, peer: ScriptedPeer) -> None:
        self.peer = peer
        self._failure: BaseException | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(3)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if isinstance(self._failure, AssertionError):
            raise self._failure from error
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            with self._listener, self._listener.accept()[0] as sock:
                sock.settimeout(3)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._talk(sock)
            self.peer.finish()
        except BaseException as failure:
            self._failure = failure

    def _talk(self, sock: socket.socket) -> None:
        while True:
            try:
                while self.peer.speaks:
                    data = self.peer.data_to_send()
                    if not data:
                        self._hang_up(sock)
                        return
                    sock.sendall(data)
                data = sock.recv(65536)
            except ConnectionError:
                return
            if not data:
                return
            self.peer.receive(data)

    def _hang_up(self, sock: socket.socket) -> None:
        # Closing with unread octets would reset the connection and take our last reply with it.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
