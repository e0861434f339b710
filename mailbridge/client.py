"""What smtplib's classes know of themselves, whether their methods block or are awaited."""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

from .envelope import Address
from .errors import AuthenticationFailed, Disconnected, MailError, NotSupported
from .host import check_helo_name, host_and_port, parse_host, split_host_port
from .link import Link
from .options import Timeouts
from .protocol import command
from .protocol.extension import Extensions
from .protocol.mail import Mail, Rcpt
from .protocol.reply import Reply
from .protocol.session import Dialogue, Session
from .secret import Hidden, Secret

L = TypeVar("L", bound=Link)
Answer = tuple[int, bytes]


class _Default:
    def __repr__(self) -> str:
        return "DEFAULT"


#: Our time-outs for each phase, unless `socket.setdefaulttimeout` says otherwise.
DEFAULT = _Default()
Timeout = float | None | _Default


class BaseClient(Generic[L]):
    """One session with a server: its attributes, and the commands that it is to send."""

    default_port: int = 25
    _login_asked = False
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
        self.local_hostname = local_hostname or ""
        self.user: str | None = None
        self._password: Secret | None = None
        self.command_encoding = "ascii"
        self._session = Session(lmtp=self._lmtp)
        self._connection: L | None = None
        self._context: ssl.SSLContext | None = None

    @classmethod
    def over(cls, connection: L, **kwargs: Any) -> Self:
        """A client for a connection that is open already, such as `Transport.connection`."""
        client = cls(**kwargs)
        host, _, port = connection.host.rpartition(":")
        client._host, client._port = host.strip("[]"), int(port) if port.isdigit() else 0
        client._connection, client._session = connection, connection.session
        return client

    def _renewed(self, host: str, port: int) -> tuple[str, int]:
        """Where to connect to, and a new session for it. Raises PortError."""
        name, port = split_host_port(host, port)
        name, port = parse_host(name), port or self.default_port
        self._host, self._port = name, port
        self._session = Session(lmtp=self._lmtp)
        if self.debuglevel:
            self._print_debug("connect:", (name, port))
        return name, port

    def _open_connection(self) -> L:
        if self._connection is None or not self._connection.open:
            raise Disconnected("please run connect() first")
        return self._connection

    def close(self) -> None:
        """Close the connection without QUIT. What the server said of itself is forgotten."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._session.forget()

    # Attributes of smtplib's that live in the session.

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

    def set_debuglevel(self, debuglevel: int) -> None:
        """Print the dialogue to stderr if true; with a time of day if 2. Credentials are masked."""
        self.debuglevel = debuglevel

    def _locate(self, error: MailError) -> None:
        error.located(
            host=host_and_port(self._host, self._port) if self._host else None,
            transcript=self._session.transcript.lines(),
        )

    def _listen(self) -> None:
        """Be told of the dialogue if it is to be shown; `debuglevel` may change at any time."""
        if self.debuglevel and self._session.transcript.listener is None:
            self._session.transcript.listener = self._show

    def _show(self, side: str, lines: list[str]) -> None:
        if self.debuglevel:
            for line in lines:
                self._print_debug("send:" if side == "C" else "reply:", repr(line))

    def _print_debug(self, *args: object) -> None:
        if self.debuglevel > 1:
            print(time.strftime("%H:%M:%S"), *args, file=sys.stderr)
        else:
            print(*args, file=sys.stderr)

    # Commands.

    def _mail(self, sender: str | None, options: Sequence[str]) -> Mail:
        options = tuple(options) if self.does_esmtp else ()
        smtputf8 = any(option.upper() == "SMTPUTF8" for option in options)
        if smtputf8 and not self.has_extn("smtputf8"):
            raise NotSupported("SMTPUTF8 not supported by server")
        self.command_encoding = "utf-8" if smtputf8 else "ascii"
        return Mail(sender or None, options, smtputf8)

    def _rcpt(self, recip: str, options: Sequence[str]) -> Rcpt:
        options = tuple(options) if self.does_esmtp else ()
        return Rcpt(recip, options, self._session.smtputf8)

    def _raw(self, cmd: str, args: str) -> command.Raw:
        words = (cmd, args) if args else (cmd,)
        line = command.Raw(*words, secret=self._session.asked_for_secret)
        if line.logs_in:
            self._session.guard(names=[self.user or ""])
        return line

    def _about(self, verb: str, address: str) -> command.Raw:
        path = Address.parse(address).path(smtputf8=self.has_extn("smtputf8"))
        # RFC 6531 section 3.7.4.2: a UTF-8 argument goes with the parameter.
        return command.Raw(verb, path, *(() if path.isascii() else ("SMTPUTF8",)))

    def _check_header_support(self) -> None:
        if not self.has_extn("smtputf8"):
            raise NotSupported(
                "One or more source or delivery addresses require internationalized email"
                " support, but the server does not advertise the required SMTPUTF8 capability"
            )

    def _octets(self, s: str | bytes) -> bytes:
        return s.encode(self.command_encoding) if isinstance(s, str) else s

    def has_extn(self, opt: str) -> bool:
        """Whether the server offers the extension; case is ignored."""
        return self._session.extensions.offers(opt)

    # For `auth`.

    def auth_plain(self, challenge: bytes | None = None) -> str:
        """PLAIN for `auth`, with `user` and `password`."""
        return f"\0{self.user}\0{self.password}"

    def auth_login(self, challenge: bytes | None = None) -> str | None:
        """LOGIN for `auth`: the user at first, the password when asked again."""
        if challenge is None or not self._login_asked:
            self._login_asked = True
            return self.user
        return self.password

    def auth_cram_md5(self, challenge: bytes | None = None) -> str | None:
        """CRAM-MD5 for `auth`. The server speaks first."""
        if challenge is None:
            return None
        # Imported here: few log in, and fewer in this way.
        from .protocol.sasl import cram_md5_response

        return cram_md5_response(str(self.user), Secret(str(self.password)), challenge)

    def _said(self, authobject: Callable[..., str | None], *challenge: bytes) -> Hidden | None:
        """What `authobject` says. What is secret in it is not to be seen again."""
        said = authobject(*challenge)
        if said is None:
            return None
        # That of PLAIN is the name, too; that of LOGIN may be nothing else.
        secret = said.rpartition("\0")[2]
        if secret != self.user:
            self._session.guard(secret.encode())
        return Hidden(said.encode())

    def _exchange(
        self, mechanism: str, authobject: Callable[..., str | None], initial_response_ok: bool
    ) -> Dialogue[Answer]:
        """One AUTH exchange with a mechanism of the caller's own. Raises AuthenticationFailed."""
        from .protocol import auth

        self._login_asked = False
        self._session.guard(names=[self.user or ""])
        initial = self._said(authobject) if initial_response_ok else None

        def respond(challenge: bytes) -> bytes:
            return cast(bytes, self._said(authobject, challenge))

        reply = yield from auth.authenticate(self._session, mechanism.upper(), initial, respond)
        if reply.code != 235:
            raise AuthenticationFailed.of(reply)
        return answer(reply)


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
    """A reply as smtplib gives it."""
    return reply.code, reply.message


def _timeouts(timeout: Timeout) -> Timeouts:
    if isinstance(timeout, _Default):
        seconds = socket.getdefaulttimeout()
        return Timeouts() if seconds is None else Timeouts.all(seconds)
    if timeout == 0:
        raise ValueError("Non-blocking socket (timeout=0) is not supported")
    return Timeouts.all(timeout)
