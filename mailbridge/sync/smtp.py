"""SMTP, SMTP_SSL and LMTP: smtplib's classes, one session each, over the dialogues.

Same methods, attributes, results and exceptions as smtplib wherever it keeps to its documentation
and the RFCs. Where it does not, these do what is right: see ``docs/explanation/smtplib.md``.
"""

from __future__ import annotations

import email.message
import ssl
from collections.abc import Callable, Sequence

from ..client import DEFAULT, Answer, Timeout, answer
from ..errors import MailError
from ..message import flattened
from ..protocol import delivery, dialogue
from ..protocol.alone import Alone, goes_alone
from ..protocol.content import Buffer, canonical
from ..protocol.transaction import MailTransaction
from ..report import DeliveryReport
from ..secret import Secret
from ..sendmail import Submission
from ..tls import tls_context
from .client import Client


class SMTP(Client):
    """One SMTP session, with `smtplib.SMTP`'s interface.

    Connects at once if `host` is given ("name", "name:port", "[v6]:port"). `timeout` in seconds
    bounds every phase as a whole; None waits for ever. `local_hostname` is for EHLO.
    Raises ConnectError if there is no connection, GreetingRefused (SMTPConnectError) if the
    server does not greet with 220.
    """

    # The mail transaction.

    def mail(self, sender: str | None, options: Sequence[str] = ()) -> Answer:
        """MAIL: begin a transaction. `options` are sent only after EHLO.

        Raises ValueError for a bad address or option, SMTPNotSupportedError for SMTPUTF8 where
        the server does not offer it.
        """
        return self._command(self._mail(sender, options))

    def rcpt(self, recip: str, options: Sequence[str] = ()) -> Answer:
        """RCPT: one recipient. Raises ValueError for a bad address or option."""
        return self._command(self._rcpt(recip, options))

    def data(self, msg: str | bytes) -> Answer:
        """DATA and the content. Line ends become CRLF and leading dots are doubled.

        Returns the reply to the content, the first bad one for LMTP. Raises SMTPDataError if
        the server will not hear it, DeliveryInDoubt if it heard all and its reply never came.
        """
        return answer(self._run(delivery.data(self._session, Buffer(canonical(msg)))))

    def sendmail(
        self,
        from_addr: str | None,
        to_addrs: str | Sequence[str],
        msg: str | bytes,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, Answer]:
        """Send one message to each of `to_addrs` (a list, or one address as a text).

        Says EHLO or HELO if that was not done. Options that the server does not offer are left
        out. Returns a dictionary of the recipients that were refused, {address: (code, text)}:
        empty if all were accepted. If nothing is raised, at least one got the mail.

        Raises SMTPRecipientsRefused if nobody did, SMTPSenderRefused, SMTPDataError,
        SMTPHeloError, SMTPNotSupportedError, DeliveryInDoubt, ValueError for bad input. The
        connection stays open, except after 421 or its loss.
        """
        submission = Submission(from_addr, to_addrs, msg, mail_options, rcpt_options)
        self.ehlo_or_helo_if_needed()
        mail = submission.transaction(self._session)
        report = self._deliver(mail)
        try:
            return submission.outcome(report)
        except MailError as error:
            self._locate(error)
            raise

    def _deliver(self, mail: MailTransaction) -> DeliveryReport:
        self._listen()
        if self._session.idle and goes_alone(self._session, mail):
            return self._carry(Alone(self._session, mail))
        return self._run(delivery.deliver(self._session, mail))

    def send_message(
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
            self.ehlo_or_helo_if_needed()
            self._check_header_support()
            mail_options = (*mail_options, "SMTPUTF8", "BODY=8BITMIME")
        return self.sendmail(
            flat.sender,
            flat.recipients,
            flat.content(utf8=flat.needs_smtputf8),
            mail_options,
            rcpt_options,
        )

    # TLS and AUTH.

    def starttls(
        self,
        keyfile: str | None = None,
        certfile: str | None = None,
        *,
        context: ssl.SSLContext | None = None,
    ) -> Answer:
        """Put the connection into TLS. EHLO must be said again and is, when it is next needed.

        The certificate is verified unless `context` says otherwise. Raises
        SMTPNotSupportedError if the server does not offer it, SMTPResponseException if it
        refuses, TLSError or CertificateError if the handshake fails.
        """
        if context is not None and (keyfile is not None or certfile is not None):
            raise ValueError("context and keyfile/certfile arguments are mutually exclusive")
        context = context or tls_context(certfile=certfile, keyfile=keyfile)
        self.ehlo_or_helo_if_needed()
        if self._connection is not None:
            self._connection.context = context
        return answer(self._run(dialogue.starttls(self._session)))

    def login(self, user: str, password: str, *, initial_response_ok: bool = True) -> Answer:
        """Log in with the best mechanism that both sides know, once.

        Raises SMTPAuthenticationError if the server refuses, SMTPNotSupportedError if it has no
        AUTH, SMTPException if no mechanism is common, SMTPHeloError.
        """
        # Imported here: a server of the same network mostly takes mail without a login.
        from ..protocol import auth
        from ..protocol.sasl import Credentials

        credentials = Credentials(user, Secret(password))
        self.user, self._password = user, Secret(password)
        user = password = "***"
        self.ehlo_or_helo_if_needed()
        return answer(
            self._run(
                auth.login(
                    self._session,
                    credentials,
                    confidential=self._session.tls,
                    initial=initial_response_ok,
                )
            )
        )

    def auth(
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
        return self._run(self._exchange(mechanism, authobject, initial_response_ok))


class SMTP_SSL(SMTP):
    """SMTP in TLS from the first byte, by default on port 465. The certificate is verified."""

    default_port = 465
    _implicit_tls = True

    def __init__(
        self,
        host: str = "",
        port: int = 0,
        local_hostname: str | None = None,
        *,
        timeout: Timeout = DEFAULT,
        source_address: tuple[str, int] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.context = context or tls_context()
        super().__init__("", 0, local_hostname, timeout, source_address)
        self._context = self.context
        if host:
            self.connect(host, port)


class LMTP(SMTP):
    """LMTP (RFC 2033): one reply to the content for each recipient.

    `host` may be the absolute path of a Unix socket.
    """

    default_port = 2003
    ehlo_msg = "lhlo"
    _lmtp = True

    def __init__(
        self,
        host: str = "",
        port: int = 2003,
        local_hostname: str | None = None,
        source_address: tuple[str, int] | None = None,
        timeout: Timeout = DEFAULT,
    ) -> None:
        super().__init__(host, port, local_hostname, timeout, source_address)
