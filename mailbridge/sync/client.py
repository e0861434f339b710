"""What SMTP and LMTP have in common with every session: connecting, greeting, single commands."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar

from ..envelope import Address
from ..errors import Disconnected, HeloRefused, MailError, ResponseError
from ..host import check_helo_name, host_and_port, parse_host, split_host_port
from ..options import Timeouts
from ..protocol import command, dialogue
from ..protocol.extension import Extensions
from ..protocol.reply import Reply
from ..protocol.session import Dialogue, Session
from ..secret import Secret
from .driver import Connection

T = TypeVar("T")
Answer = tuple[int, bytes]


class _Default:
    def __repr__(self) -> str:
        return "DEFAULT"


#: Our time-outs for each phase, unless `socket.setdefaulttimeout` says otherwise.
DEFAULT = _Default()
Timeout = float | None | _Default


class Client:
    """One session with a server, command by command.

    Connects at once if `host` is given ("name", "name:port", "[v6]:port"). `timeout` in seconds
    bounds every phase as a whole; None waits for ever. `local_hostname` is for EHLO.
    Raises ConnectError if there is no connection, GreetingRefused (SMTPConnectError) if the
    server does not greet with 220.
    """

    default_port: ClassVar[int] = 25
    ehlo_msg: str = "ehlo"
    debuglevel: int = 0
    _lmtp: ClassVar[bool] = False
    _implicit_tls: ClassVar[bool] = False

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        timeout: Timeout = DEFAULT,
        source_address: tuple[str, int] | None = None,
    ) -> None:
        self._host, self._port = host, port
        self.timeout = timeout
        self._timeouts = _timeouts(timeout)
        self.source_address = source_address
        self.local_hostname = fully_qualified_name() if local_hostname is None else local_hostname
        self.user: str | None = None
        self._password: Secret | None = None
        self.command_encoding = "ascii"
        self._session = Session(lmtp=self._lmtp)
        self._connection: Connection | None = None
        self._context: ssl.SSLContext | None = None
        if host:
            self.connect(host, port)

    @classmethod
    def over(cls, connection: Connection, **kwargs: Any) -> Self:
        """A client for a connection that is open already, such as `Transport.connection`."""
        client = cls(**kwargs)
        host, _, port = connection.host.rpartition(":")
        client._host, client._port = host.strip("[]"), int(port) if port.isdigit() else 0
        client._connection, client._session = connection, connection.session
        return client

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

    # Attributes of smtplib's that live in the session.

    @property
    def sock(self) -> socket.socket | None:
        """The socket while connected, else None."""
        return None if self._connection is None else self._connection.sock

    @property
    def esmtp_features(self) -> Extensions:
        """Extension keywords in lower case with their parameters, as EHLO said."""
        return self._session.extensions

    @esmtp_features.setter
    def esmtp_features(self, features: Mapping[str, str]) -> None:
        self._session.extensions = Extensions(features)

    @property
    def does_esmtp(self) -> bool:
        """True after a successful EHLO."""
        return self._session.esmtp

    @does_esmtp.setter
    def does_esmtp(self, esmtp: bool) -> None:
        self._session.esmtp = bool(esmtp)

    @property
    def ehlo_resp(self) -> bytes | None:
        """The text of the reply to EHLO, None before."""
        return self._hello_text(esmtp=True)

    @property
    def helo_resp(self) -> bytes | None:
        """The text of the reply to HELO, None before."""
        return self._hello_text(esmtp=False)

    def _hello_text(self, *, esmtp: bool) -> bytes | None:
        hello = self._session.hello
        return hello.message if hello is not None and self._session.esmtp is esmtp else None

    @property
    def password(self) -> str | None:
        """The password of `login`, for `auth`."""
        return None if self._password is None else self._password.reveal()

    @password.setter
    def password(self, password: str | None) -> None:
        self._password = None if password is None else Secret(password)

    # Connecting.

    def set_debuglevel(self, debuglevel: int) -> None:
        """Print the dialogue to stderr if true; with a time of day if 2. Credentials are masked."""
        self.debuglevel = debuglevel

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
        name, port = split_host_port(host, port)
        name, port = parse_host(name), port or self.default_port
        self._host, self._port = name, port
        self._session = Session(lmtp=self._lmtp)
        self._session.transcript.listener = self._show
        where = host_and_port(name, port)
        if self.debuglevel:
            self._print_debug("connect:", (name, port))
        self._connection = connection = Connection(
            self._session,
            self._timeouts,
            where,
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

    def close(self) -> None:
        """Close the connection without QUIT. What the server said of itself is forgotten."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._session.forget()

    def quit(self) -> Answer:
        """Say QUIT and close the connection. Returns the reply as (code, text)."""
        try:
            return answer(self._run(dialogue.quit_(self._session)))
        finally:
            self.close()

    def _run(self, conversation: Dialogue[T]) -> T:
        connection = self._connection
        if connection is None or connection.sock is None:
            conversation.close()
            raise Disconnected("please run connect() first")
        try:
            return connection.run(conversation)
        finally:
            if not connection.open:
                self.close()

    def _locate(self, error: MailError) -> None:
        error.located(
            host=host_and_port(self._host, self._port) if self._host else None,
            transcript=self._session.transcript.lines(),
        )

    def _show(self, side: str, lines: list[str]) -> None:
        if self.debuglevel:
            for line in lines:
                self._print_debug("send:" if side == "C" else "reply:", repr(line))

    def _print_debug(self, *args: object) -> None:
        if self.debuglevel > 1:
            print(time.strftime("%H:%M:%S"), *args, file=sys.stderr)
        else:
            print(*args, file=sys.stderr)

    # Commands of the caller's own.

    def send(self, s: str | bytes) -> None:
        """Write octets as they are; nothing checks or answers them. `data` is what you want."""
        if self._connection is None or self._connection.sock is None:
            raise Disconnected("please run connect() first")
        self._session.send_raw(s.encode(self.command_encoding) if isinstance(s, str) else s)
        self._connection.flush()

    def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command line and do not wait for its reply (see `getreply`).

        Raises ValueError if it contains a line break.
        """
        line = self._raw(cmd, args)
        if self._connection is None or self._connection.sock is None:
            raise Disconnected("please run connect() first")
        self._session.send(line)
        self._connection.flush()

    def getreply(self) -> Answer:
        """Read a reply: (code, text), the lines of a longer one joined by newlines."""
        return answer(self._run(self._session.reply()))

    def docmd(self, cmd: str, args: str = "") -> Answer:
        """Send a command line and return the reply as (code, text).

        Raises ValueError if it contains a line break, Disconnected if no reply comes.
        """
        return self._command(self._raw(cmd, args))

    def _raw(self, cmd: str, args: str) -> command.Raw:
        words = (cmd, args) if args else (cmd,)
        line = command.Raw(*words, secret=self._session.asked_for_secret)
        if line.logs_in:
            self._session.guard(names=[self.user or ""])
        return line

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
            raise HeloRefused(code, text)

    def has_extn(self, opt: str) -> bool:
        """Whether the server offers the extension; case is ignored."""
        return self._session.extensions.offers(opt)

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
        return self._ask_about("VRFY", address)

    vrfy = verify

    def expn(self, address: str) -> Answer:
        """EXPN: the members of a list. Many servers refuse to say."""
        return self._ask_about("EXPN", address)

    def _ask_about(self, verb: str, address: str) -> Answer:
        path = Address.parse(address).path(smtputf8=self.has_extn("smtputf8"))
        # RFC 6531 section 3.7.4.2: a UTF-8 argument goes with the parameter.
        return self._command(command.Raw(verb, path, *(() if path.isascii() else ("SMTPUTF8",))))


def fully_qualified_name() -> str:
    """This host's name for EHLO, or an address literal if it has none that is fit for it."""
    name = socket.getfqdn()
    if "." in name:
        try:
            return check_helo_name(name)
        except ValueError:
            return "[127.0.0.1]"
    try:
        return f"[{socket.gethostbyname(socket.gethostname())}]"
    except OSError:
        return "[127.0.0.1]"


def answer(reply: Reply) -> Answer:
    return reply.code, reply.message


def _timeouts(timeout: Timeout) -> Timeouts:
    if isinstance(timeout, _Default):
        seconds = socket.getdefaulttimeout()
        return Timeouts() if seconds is None else Timeouts.all(seconds)
    if timeout == 0:
        raise ValueError("Non-blocking socket (timeout=0) is not supported")
    return Timeouts.all(timeout)
