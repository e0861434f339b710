"""AsyncSMTP and AsyncLMTP: the methods of `SMTP`, to be awaited."""

from __future__ import annotations

import asyncio
import email.message
import socket
import ssl
from collections.abc import Callable, Generator, Sequence
from typing import Any, Self, TypeVar

from ..client import DEFAULT, Answer, BaseClient, Timeout, answer, fully_qualified_name
from ..errors import Disconnected, MailError, ResponseError
from ..host import host_and_port
from ..message import flattened
from ..protocol import auth, command, delivery, dialogue
from ..protocol.alone import Alone, goes_alone
from ..protocol.content import Buffer, canonical
from ..protocol.reply import Reply
from ..protocol.sasl import Credentials
from ..protocol.session import Dialogue
from ..report import DeliveryReport
from ..secret import Secret
from ..sendmail import Submission
from ..tls import tls_context
from .driver import Connection

T = TypeVar("T")


class AsyncSMTP(BaseClient[Connection]):
    """One SMTP session: the methods, results and errors of `SMTP`, each to be awaited.

    Connects when `connect` is awaited, or ``async with`` entered: to `host` ("name", "name:port",
    "[v6]:port"), in TLS from the first byte with `implicit_tls`. `timeout` in seconds bounds every
    phase as a whole; None waits for ever. Tasks that share a session take turns, command by
    command; a `sendmail` is one turn. A task that is cancelled in the middle of a transaction, or
    while an answer is under way, closes the session.
    """

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        timeout: Timeout = DEFAULT,
        source_address: tuple[str, int] | None = None,
        *,
        implicit_tls: bool = False,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(host, port, local_hostname, timeout, source_address)
        self._in_tls = implicit_tls
        if implicit_tls:
            self.default_port = 465
            self._context = context or tls_context()
        self._turn = asyncio.Lock()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._connected().__await__()

    async def _connected(self) -> Self:
        if not self.is_connected:
            await self.connect(self._host or "localhost", self._port)
        return self

    async def __aenter__(self) -> Self:
        return await self._connected()

    async def __aexit__(self, kind: object, error: object, traceback: object) -> None:
        delivered = self._session.mail_accepted
        try:
            code, message = await self._command(command.Quit())
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
        """The socket while connected, else None. Not to be read from or written to."""
        return None if self._connection is None else self._connection.sock

    @property
    def is_connected(self) -> bool:
        """True while there is a connection."""
        return self._connection is not None and self._connection.open

    # Connecting.

    async def connect(
        self,
        host: str = "localhost",
        port: int = 0,
        source_address: tuple[str, int] | None = None,
    ) -> Answer:
        """Connect, and return the greeting as (code, text).

        Raises PortError if a port in `host` is no number, ConnectError, or GreetingRefused if
        the greeting is not 220.
        """
        self.close()
        if not self.local_hostname:
            # Asks the name service, which may take its time.
            self.local_hostname = await asyncio.to_thread(fully_qualified_name)
        name, port = self._renewed(host, port)
        where = host_and_port(name, port)
        self._connection = connection = Connection(
            self._session, self._timeouts, where, server_hostname=name, context=self._context
        )
        try:
            await connection.connect(name, port, source_address or self.source_address)
            greeting = dialogue.greet(self._session, implicit_tls=self._in_tls)
            return answer(await self._run(greeting))
        except BaseException:
            self.close()
            raise

    async def quit(self) -> Answer:
        """Say QUIT and close the connection. Returns the reply as (code, text)."""
        try:
            return answer(await self._run(dialogue.quit_(self._session)))
        finally:
            self.close()

    async def _run(self, conversation: Dialogue[T]) -> T:
        async with self._turn:
            return await self._converse(conversation)

    async def _converse(self, conversation: Dialogue[T]) -> T:
        """Run a dialogue. The turn is this task's."""
        connection = self._connection
        if connection is None:
            conversation.close()
            raise Disconnected("please run connect() first")
        self._listen()
        try:
            return await connection.run(conversation)
        finally:
            self._let_go_of(connection)

    def _let_go_of(self, connection: Connection) -> None:
        """Forget it, if it is closed. Another may have taken its place."""
        if not connection.open and connection is self._connection:
            self.close()

    # Commands of the caller's own.

    async def send(self, s: str | bytes) -> None:
        """Write octets as they are; nothing checks or answers them. `data` is what you want."""
        connection = self._open_connection()
        self._session.send_raw(self._octets(s))
        connection.flush()

    async def putcmd(self, cmd: str, args: str = "") -> None:
        """Send a command line and do not wait for its reply (see `getreply`).

        Raises ValueError if it contains a line break.
        """
        line = self._raw(cmd, args)
        connection = self._open_connection()
        self._listen()
        self._session.send(line)
        connection.flush()

    async def getreply(self) -> Answer:
        """Read a reply: (code, text), the lines of a longer one joined by newlines."""
        return answer(await self._run(self._session.reply()))

    async def docmd(self, cmd: str, args: str = "") -> Answer:
        """Send a command line and return the reply as (code, text).

        Raises ValueError if it contains a line break, Disconnected if no reply comes.
        """
        return await self._command(self._raw(cmd, args))

    async def _command(self, line: command.Command) -> Answer:
        return answer(await self._run(self._session.command(line)))

    async def helo(self, name: str = "") -> Answer:
        """HELO with `name`, or else `local_hostname`."""
        return answer(await self._run(dialogue.helo(self._session, name or self.local_hostname)))

    async def ehlo(self, name: str = "") -> Answer:
        """EHLO with `name`, or else `local_hostname`. The extensions are in `esmtp_features`."""
        return answer(await self._run(dialogue.ehlo(self._session, name or self.local_hostname)))

    async def ehlo_or_helo_if_needed(self) -> None:
        """EHLO, and HELO if that fails, unless one was said before. Raises SMTPHeloError."""
        if self._session.hello is None:
            await self._run(self._hello())

    def _hello(self) -> Dialogue[None]:
        if self._session.hello is None:
            yield from dialogue.hello(self._session, self.local_hostname)

    async def help(self, args: str = "") -> bytes:
        """HELP: the text of the reply."""
        return (await self.docmd("HELP", args))[1]

    async def noop(self) -> Answer:
        """NOOP."""
        return await self.docmd("NOOP")

    async def rset(self) -> Answer:
        """RSET: drop the transaction that was begun."""
        self.command_encoding = "ascii"
        return await self._command(command.Rset())

    async def verify(self, address: str) -> Answer:
        """VRFY: 250 and an address, or an error code and text. Many servers refuse to say."""
        return await self._command(self._about("VRFY", address))

    vrfy = verify

    async def expn(self, address: str) -> Answer:
        """EXPN: the members of a list. Many servers refuse to say."""
        return await self._command(self._about("EXPN", address))

    # The mail transaction.

    async def mail(self, sender: str | None, options: Sequence[str] = ()) -> Answer:
        """MAIL: begin a transaction. `options` are sent only after EHLO.

        Raises ValueError for a bad address or option, SMTPNotSupportedError for SMTPUTF8 where
        the server does not offer it.
        """
        return await self._command(self._mail(sender, options))

    async def rcpt(self, recip: str, options: Sequence[str] = ()) -> Answer:
        """RCPT: one recipient. Raises ValueError for a bad address or option."""
        return await self._command(self._rcpt(recip, options))

    async def data(self, msg: str | bytes) -> Answer:
        """DATA and the content. Line ends become CRLF and leading dots are doubled.

        Returns the reply to the content, the first bad one for LMTP. Raises SMTPDataError if
        the server will not hear it, DeliveryInDoubt if it heard all and its reply never came.
        """
        return answer(await self._run(delivery.data(self._session, Buffer(canonical(msg)))))

    async def sendmail(
        self,
        from_addr: str | None,
        to_addrs: str | Sequence[str],
        msg: str | bytes,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, Answer]:
        """Send one message to each of `to_addrs` (a list, or one address as a text).

        Returns and raises what `SMTP.sendmail` does: the recipients that were refused, if
        somebody got the mail.
        """
        submission = Submission(from_addr, to_addrs, msg, mail_options, rcpt_options)
        async with self._turn:
            report = await self._deliver(submission)
        try:
            return submission.outcome(report)
        except MailError as error:
            self._locate(error)
            raise

    async def _deliver(self, submission: Submission) -> DeliveryReport:
        if self._session.hello is None:
            await self._converse(self._hello())
        connection, session = self._connection, self._session
        mail = submission.transaction(session)
        self._listen()
        if connection is None or not (session.idle and goes_alone(session, mail)):
            return await self._converse(delivery.deliver(session, mail))
        try:
            return await connection.exchange(Alone(session, mail))
        finally:
            self._let_go_of(connection)

    async def send_message(
        self,
        msg: email.message.Message,
        from_addr: str | None = None,
        to_addrs: str | Sequence[str] | None = None,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, Answer]:
        """Send an email message object; sender and recipients are those of its header.

        Resent- fields come first, Bcc is not sent, SMTPUTF8 is used if an address needs it.
        Returns and raises as `sendmail`; ValueError for more than one set of Resent- fields.
        """
        flat = flattened(msg, from_addr, to_addrs)
        if flat.needs_smtputf8:
            await self.ehlo_or_helo_if_needed()
            self._check_header_support()
            mail_options = (*mail_options, "SMTPUTF8", "BODY=8BITMIME")
        return await self.sendmail(
            flat.sender,
            flat.recipients,
            flat.content(utf8=flat.needs_smtputf8),
            mail_options,
            rcpt_options,
        )

    # TLS and AUTH.

    async def starttls(self, *, context: ssl.SSLContext | None = None) -> Answer:
        """Put the connection into TLS. EHLO must be said again and is, when it is next needed.

        The certificate is verified unless `context` says otherwise. Raises
        SMTPNotSupportedError if the server does not offer it, SMTPResponseException if it
        refuses, TLSError or CertificateError if the handshake fails.
        """
        context = context or tls_context()
        if self._connection is not None:
            self._connection.context = context

        def conversation() -> Dialogue[Reply]:
            yield from self._hello()
            return (yield from dialogue.starttls(self._session))

        return answer(await self._run(conversation()))

    async def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> Answer:
        """Log in with the best mechanism that both sides know, once.

        Raises SMTPAuthenticationError if the server refuses, SMTPNotSupportedError if it has no
        AUTH, SMTPException if no mechanism is common, SMTPHeloError.
        """
        credentials = Credentials(user, Secret(password))
        self.user, self._password = user, Secret(password)
        user = password = "***"

        def conversation() -> Dialogue[Reply]:
            yield from self._hello()
            return (
                yield from auth.login(
                    self._session,
                    credentials,
                    confidential=self._session.tls,
                    initial=initial_response_ok,
                )
            )

        return answer(await self._run(conversation()))

    async def auth(
        self,
        mechanism: str,
        authobject: Callable[..., str | None],
        *,
        initial_response_ok: bool = True,
    ) -> Answer:
        """One AUTH exchange with a mechanism of the caller's own.

        `authobject()` returns the initial response or None, `authobject(challenge)` the answer to
        a challenge (bytes), both as text. Raises SMTPAuthenticationError.
        """
        return await self._run(self._exchange(mechanism, authobject, initial_response_ok))


class AsyncLMTP(AsyncSMTP):
    """LMTP (RFC 2033): one reply to the content for each recipient.

    `host` may be the absolute path of a Unix socket.
    """

    default_port = 2003
    ehlo_msg = "lhlo"
    _lmtp = True
