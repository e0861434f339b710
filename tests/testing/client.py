"""A bare client: lines out, replies in, nothing in between."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Self

from mailbridge.testing import ScriptedServer


class Client:
    """One connection to a scripted server. ``greeting`` is the first reply."""

    def __init__(self, server: ScriptedServer, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection((server.host, server.port), timeout=10)
        if context is not None:
            self.tls(context)
        self._file = self.socket.makefile("rb")
        self.greeting = self.reply()

    def reply(self) -> str:
        """One reply, its lines joined by newlines; "" when the server has closed."""
        lines = []
        while line := self._file.readline():
            lines.append(line.decode().removesuffix("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say(self, *lines: str) -> str:
        """Send lines in one write; return the reply to the last of them."""
        self.send("".join(f"{line}\r\n" for line in lines).encode())
        return [self.reply() for _ in lines][-1]

    def ehlo(self) -> str:
        return self.say("EHLO client.example")

    def begin(self, *recipients: str) -> None:
        """EHLO, MAIL and RCPT; the recipients must be accepted."""
        self.say("EHLO client.example")
        self.say("MAIL FROM:<a@example.org>")
        for recipient in recipients or ("b@example.org",):
            assert self.say(f"RCPT TO:<{recipient}>").startswith("250")

    def data(self, content: bytes) -> str:
        """DATA, the content as it is, and the end of it; the reply to that."""
        assert self.say("DATA").startswith("354")
        self.send(content + b".\r\n")
        return self.reply()

    def tls(self, context: ssl.SSLContext) -> None:
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self.socket.close()
