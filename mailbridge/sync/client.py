"""What SMTP and LMTP have in common with every session: connecting, greeting, single commands."""

from __future__ import annotations

import socket
from typing import Self, TypeVar

from ..client import DEFAULT, Answer, BaseClient, Timeout, answer, fully_qualified_name
from ..errors import Disconnected, HeloRefused, ResponseError
from ..host import host_and_port
from ..protocol import command, dialogue
from ..protocol.reply import Reply
from ..protocol.session import Dialogue
from ..protocol.shortcut import Shortcut
from ..report import DeliveryReport, Phase
from .driver import Connection

T = TypeVar("T")


class Client(BaseClient[Connection]):
    """One session with a server, command by command.

    Connects at once if `host` is given ("name", "name:port", "[v6]:port"). `timeout` in seconds
    bounds every phase as a whole; None waits for ever. `local_hostname` is for EHLO.
    Raises ConnectError if there is no connection, GreetingRefused (SMTPConnectError) if the
    server does not greet with 220.
    """

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        timeout: Timeout = DEFAULT,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        name = fully_qualified_name() if local_hostname is None else local_hostname
        super().__init__(host, port, name, timeout, source_address)
        if host:
            self.connect(host, port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        delivered = self._session.mail_accepted
        try:
            code, message = self._command(command.Quit())
            # Mail that was accepted stays so, whatever the answer to QUIT (RFC 5321 4.1.1.10);
            # and an error that is on its way must not be hidden by another.
            if code != 221 and error is None and not delivered:
                raise ResponseError(code, message)
        except Disconnected:
            pass  # The session was to end, and has.
        finally:
            self.close()

    @property
    def sock(self) -> socket.socket | None:
        """The socket while connected, else None."""
        return None if self._connection is None else self._connection.sock

    # Connecting.

    def connect(
        self,
        host: str = "localhost",
        port: int = 0,
        source_address: tuple[str, int] | None = None,
    ) -> Answer:
        """Connect, and return the greeting as (code, text).

        A port may be part of `host` ("name:port"). Raises PortError if it is no number,
        ConnectError, or GreetingRefused if the greeting is not 220.
        """
        self.close()
        source_address = source_address or self.source_address
        name, port = self._renewed(host, port)
        self._connection = connection = Connection(
            self._session,
            self._timeouts,
            host_and_port(name, port),
            server_hostname=name,
            context=self._context,
        )
        try:
            connection.connect(name, port, source_address)
        except BaseException:
            self.close()
            raise
        greeting = dialogue.greet(self._session, implicit_tls=self._implicit_tls)
        return answer(self._run(greeting))

    def quit(self) -> Answer:
        """Say QUIT and close the connection. Returns the reply as (code, text)."""
        try:
            return answer(self._run(dialogue.quit_(self._session)))
        finally:
            self.close()

    def _run(self, conversation: Dialogue[T]) -> T:
        try:
            connection = self._open_connection()
        except Disconnected:
            conversation.close()
            raise
        self._listen()
        try:
            return connection.run(conversation)
        finally:
            if not connection.open:
                self.close()

    def _carry(self, shortcut: Shortcut) -> DeliveryReport:
        connection = self._open_connection()
        try:
            return connection.exchange(shortcut)
        finally:
            if not connection.open:
                self.close()

    # Commands of the caller's own.

    def send(self, s: str | bytes) -> None:
        """Write octets as they are; nothing checks or answers them. `data` is what you want."""
        connection = self._open_connection()
        self._session.send_raw(self._octets(s))
        connection.flush()

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command line and do not wait for its reply (see `getreply`).

        Raises ValueError if it contains a line break.
        """
        line = self._raw(cmd, args)
        connection = self._open_connection()
        self._listen()
        self._session.send(line)
        connection.flush()

    def getreply(self) -> Answer:
        """Read a reply: (code, text), the lines of a longer one joined by newlines."""
        return answer(self._run(self._session.reply()))

    def docmd(self, cmd: str, args: str = "") -> Answer:
        """Send a command line and return the reply as (code, text).

        Raises ValueError if it contains a line break, Disconnected if no reply comes.
        """
        return self._command(self._raw(cmd, args))

    def _command(self, line: command.Command) -> Answer:
        return answer(self._run(self._session.command(line)))

    def helo(self, name: str = "") -> Answer:
        """HELO with `name`, or else `local_hostname`."""
        return answer(self._run(dialogue.helo(self._session, name or self.local_hostname)))

    def ehlo(self, name: str = "") -> Answer:
        """EHLO with `name`, or else `local_hostname`. The extensions are in `esmtp_features`."""
        return answer(self._run(dialogue.ehlo(self._session, name or self.local_hostname)))

    def ehlo_or_helo_if_needed(self) -> None:
        """EHLO, and HELO if that fails, unless one was said before. Raises SMTPHeloError."""
        if self._session.hello is not None:
            return
        code, text = self.ehlo()
        if not 200 <= code < 300 and code != 421 and not self._lmtp:
            # RFC 5321 section 3.2: fall back to HELO; LMTP has none.
            code, text = self.helo()
        if not 200 <= code < 300:
            refused = HeloRefused.of(Reply(code, tuple(text.split(b"\n"))))
            refused.phase = Phase.EHLO
            self._locate(refused)
            raise refused

    def help(self, args: str = "") -> bytes:
        """HELP: the text of the reply."""
        return self.docmd("HELP", args)[1]

    def noop(self) -> Answer:
        """NOOP."""
        return self.docmd("NOOP")

    def rset(self) -> Answer:
        """RSET: drop the transaction that was begun."""
        self.command_encoding = "ascii"
        return self._command(command.Rset())

    def verify(self, address: str) -> Answer:
        """VRFY: 250 and an address, or an error code and text. Many servers refuse to say."""
        return self._command(self._about("VRFY", address))

    vrfy = verify

    def expn(self, address: str) -> Answer:
        """EXPN: the members of a list. Many servers refuse to say."""
        return self._command(self._about("EXPN", address))
