"""What `sendmail` takes and returns, for the blocking client and the asyncio one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .envelope import Address, Envelope, parse_reverse_path
from .errors import Disconnected, NotSupported, RecipientsRefused
from .protocol.content import Binary, Body, Buffer, canonical
from .protocol.extension import Extensions
from .protocol.mail import check_parameters
from .protocol.reply import Reply
from .protocol.session import Session
from .protocol.transaction import MailTransaction
from .report import DeliveryReport, Phase, RecipientResult, State


def plan(
    session: Session,
    envelope: Envelope,
    content: Body | bytes,
    mail_options: Iterable[str] = (),
    rcpt_options: Iterable[str] = (),
) -> MailTransaction:
    """A transaction fitted to what the server offers. `content` is canonical.

    Options that are not offered are left out; SIZE and BODY are added where they are. A content
    over the server's limit is refused here (RFC 1870 section 6.1).
    Raises NotSupported for SMTPUTF8, REQUIRETLS or 8-bit content that the server does not offer.
    """
    extensions = session.extensions
    if isinstance(content, bytes):
        content = Buffer(content)
    mail = MailTransaction(envelope, content)
    names: set[str] = set()
    if mail_options or not content.is_ascii:
        options = _options(session, content, mail_options)
        names = set(map(parameter_name, options))
        mail.mail_parameters = [option for option in options if extensions.allows(option)]
        mail.smtputf8 = "SMTPUTF8" in names
    if rcpt_options:
        mail.rcpt_parameters = [option for option in rcpt_options if extensions.allows(option)]
    if "limits" in extensions:
        mail.max_recipients = extensions.rcpt_max
    if "size" in extensions:
        if "SIZE" not in names:
            mail.size = content.size
        limit = extensions.size_limit
        if limit is not None and content.size > limit:
            text = f"5.3.4 message of {content.size} octets exceeds the server's {limit}"
            mail.refuse_locally(552, text)
    return mail


def _options(session: Session, content: Body, mail_options: Iterable[str]) -> list[str]:
    """The parameters of MAIL that were asked for, with BODY as the content has it."""
    extensions = session.extensions
    options = ["BODY=8BITMIME" if o.upper() == "8BITMIME" else o for o in mail_options]
    if isinstance(content, Binary):
        options = [option for option in options if parameter_name(option) != "BODY"]
        options.append("BODY=BINARYMIME")
        if not extensions.allows(options[-1]):
            raise _needs_binarymime(extensions)
    elif not content.is_ascii:
        # What the caller says of BODY must be true of the content.
        options = [option for option in options if parameter_name(option) != "BODY"]
        if not extensions.offers("8BITMIME"):
            # RFC 6152 section 3: "must not, under any circumstances".
            error = NotSupported("the content has 8-bit octets, the server offers no 8BITMIME")
            error.advice = "Encode it as quoted-printable or base64 (policy cte_type='7bit')"
            raise error
        options.append("BODY=8BITMIME")
    names = set(map(parameter_name, options))
    for name in names & {"SMTPUTF8", "REQUIRETLS"}:
        # Leaving these out would send what must not be sent without them.
        if not extensions.offers(name):
            raise NotSupported(f"{name} not supported by server")
    if "REQUIRETLS" in names and not session.channel.verified:
        raise _needs_verified_tls()
    return options


def _needs_binarymime(extensions: Extensions) -> NotSupported:
    missing = [name for name in ("BINARYMIME", "CHUNKING") if not extensions.offers(name)]
    error = NotSupported(f"binary content needs {' and '.join(missing)}, not offered here")
    error.advice = "Encode the binary parts as base64, and send bytes rather than Binary"
    error.phase = Phase.MAIL
    return error


def _needs_verified_tls() -> NotSupported:
    # RFC 8689 section 4.2.1: only over TLS with a certificate that was verified.
    error = NotSupported("REQUIRETLS needs TLS with a verified certificate on this connection")
    error.advice = "Set tls='starttls' or tls='implicit', and verify: ca_file or fingerprint"
    return error


def parameter_name(option: str) -> str:
    """The keyword of an ESMTP parameter, in upper case."""
    return option.partition("=")[0].upper()


def quoteaddr(addrstring: str) -> str:
    """The path of an address in angle brackets, ``<>`` for an empty one. Raises AddressError."""
    address = parse_reverse_path(addrstring or None)
    return "<>" if address is None else f"<{address.path(smtputf8=True).decode()}>"


def quotedata(data: str) -> str:
    """`data` with CRLF line ends and leading dots doubled, as it follows DATA."""
    return re.sub(r"(?m)^\.", "..", re.sub(r"\r\n|\n|\r(?!\n)", "\r\n", data))


class Submission:
    """The arguments of one `sendmail` call, checked before anything is sent.

    Raises AddressError, InvalidInput for an option, UnicodeEncodeError for a text outside ASCII.
    """

    def __init__(
        self,
        from_addr: str | None,
        to_addrs: str | Sequence[str],
        msg: str | bytes,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> None:
        given = [to_addrs] if isinstance(to_addrs, str) else list(to_addrs or ())
        self.envelope = Envelope(from_addr or None, given)
        self.content = Buffer(canonical(msg))
        # UTF-8 in a parameter is judged when it is known whether SMTPUTF8 is used.
        self.mail_options = check_parameters(mail_options, smtputf8=True)
        self.rcpt_options = check_parameters(rcpt_options, smtputf8=True)
        # The results name recipients as the caller did.
        self._given: dict[str, list[str]] = {}
        for text in given:
            self._given.setdefault(str(Address.parse(text)), []).append(text)

    def transaction(self, session: Session) -> MailTransaction:
        """This submission, fitted to the server. Raises NotSupported."""
        return plan(session, self.envelope, self.content, self.mail_options, self.rcpt_options)

    def outcome(self, report: DeliveryReport) -> dict[str, tuple[int, bytes]]:
        """What `sendmail` returns: the refused recipients. Raises what it raises."""
        error = report.error
        if error is None and report.all_accepted:
            return {}
        # A 421 in the middle of the recipients: nobody got the mail, and each is told so.
        named = self._answers(r for r in report if r.reply is not None)
        closed = error.reply if isinstance(error, Disconnected) and named else None
        if error is not None and closed is None:
            raise error
        refused = self._answers(r for r in report if r.state is not State.ACCEPTED)
        if report.accepted:
            return refused
        if closed is not None:
            told = {
                text: (closed.code, closed.message)
                for result in report
                if result.reply is None
                for text in self._texts(result.address)
            }
            refused = {**refused, **told}
        all_refused = RecipientsRefused(refused, named=named)
        all_refused.report = report
        all_refused.reply = closed
        all_refused.phase = Phase.RCPT
        all_refused.host = report.relay
        raise all_refused

    def _answers(self, results: Iterable[RecipientResult]) -> dict[str, tuple[int, bytes]]:
        return {
            text: _answer(result.reply, result.reason)
            for result in results
            for text in self._texts(result.address)
        }

    def _texts(self, address: str) -> list[str]:
        """How the caller wrote this recipient: every way, since each will be looked up."""
        return self._given.get(address, [address])


def _answer(reply: Reply | None, reason: str | None) -> tuple[int, bytes]:
    return (451, (reason or "").encode()) if reply is None else (reply.code, reply.message)
