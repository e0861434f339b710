"""aiosmtpd: another program's idea of SMTP and LMTP, in this process."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.lmtp import LMTP as LMTPServer
from aiosmtpd.smtp import SMTP as SMTPServer
from aiosmtpd.smtp import AuthResult, LoginPassword

import mailbridge
from mailbridge import Envelope, Relay, Transport
from tests.ports import free_ports

SENDER = "me@example.org"
CONTENT = b"Subject: x\r\n\r\n.one dot\r\n..two dots\r\n.\r\nblanks  \r\n\r\n8 bits: \xc3\xa9\r\n"


class Mailbox:
    """aiosmtpd's handler: keeps what came, and refuses whom and what it should."""

    def __init__(self) -> None:
        self.stored: list[tuple[list[str], bytes, bool]] = []

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address.startswith("refused"):
            return "550 5.1.1 No such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if b"unwanted" in envelope.original_content:
            return "554 5.7.1 Not wanted"
        kept = (list(envelope.rcpt_tos), envelope.original_content, envelope.smtp_utf8)
        self.stored.append(kept)
        return "250 2.0.0 Ok: queued as 1"


def authenticated(
    server: Any, session: Any, envelope: Any, mechanism: str, data: object
) -> AuthResult:
    right = isinstance(data, LoginPassword) and data == LoginPassword(b"user", b"secret")
    return AuthResult(success=right, handled=False)


class Server(Controller):
    kind: type[SMTPServer] = SMTPServer

    def factory(self) -> SMTPServer:
        return self.kind(self.handler, **self.SMTP_kwargs)


class Lmtp(Server):
    kind = LMTPServer


@contextmanager
def serving(server: type[Server] = Server, **options: Any) -> Iterator[tuple[int, Mailbox]]:
    """Run it; yields its port, and what it has got."""
    mailbox = Mailbox()
    (port,) = free_ports(1)
    running = server(mailbox, "127.0.0.1", port, **{"enable_SMTPUTF8": True, **options})
    running.ready_timeout = 30.0  # a busy machine takes its time
    running.start()
    try:
        yield port, mailbox
    finally:
        mailbridge.close_pools()
        running.stop()


def transport(port: int, **options: Any) -> Transport:
    options = {"host": "127.0.0.1", "port": port, "tls": "none", "timeout": 10, **options}
    return Transport(Relay.from_options(options))


@pytest.fixture
def server_context(postfix_authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    postfix_authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def context(postfix_authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    postfix_authority.configure_trust(context)
    return context


def test_stored_is_what_was_sent() -> None:
    with serving() as (port, mailbox):
        report = transport(port).send(Envelope(SENDER, ["a@x.org", "jörg@x.org"]), CONTENT)
    assert report.accepted == ("a@x.org", "jörg@x.org")
    assert mailbox.stored == [(["a@x.org", "jörg@x.org"], CONTENT, True)]


def test_without_smtputf8() -> None:
    with serving(enable_SMTPUTF8=False) as (port, mailbox):
        with pytest.raises(mailbridge.SomeRecipientsRefused, match="SMTPUTF8"):
            transport(port).send(Envelope(SENDER, ["jörg@x.org", "u@faß.de"]), CONTENT)
    assert mailbox.stored == [(["u@xn--fa-hia.de"], CONTENT, False)]


def test_refusals_and_a_limit() -> None:
    with serving(data_size_limit=1000) as (port, mailbox):
        sender = transport(port)
        with pytest.raises(mailbridge.SomeRecipientsRefused):
            sender.send(Envelope(SENDER, ["refused@x.org", "a@x.org"]), CONTENT)
        with pytest.raises(mailbridge.MessageRefused, match="Not wanted"):
            sender.send(Envelope(SENDER, ["a@x.org"]), CONTENT + b"unwanted\r\n")
        with pytest.raises(mailbridge.MessageRefused):
            sender.send(Envelope(SENDER, ["a@x.org"]), CONTENT + b"x\r\n" * 1000)
        blind = transport(port, ignore_extensions=["SIZE"])
        with pytest.raises(mailbridge.MessageRefused):
            blind.send(Envelope(SENDER, ["a@x.org"]), CONTENT + b"x\r\n" * 1000)
        assert sender.send(Envelope(SENDER, ["b@x.org"]), CONTENT).accepted
    assert [recipients for recipients, *_ in mailbox.stored] == [["a@x.org"], ["b@x.org"]]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_login_over_starttls(
    server_context: ssl.SSLContext, context: ssl.SSLContext, mechanism: str
) -> None:
    demands = {"tls_context": server_context, "require_starttls": True, "auth_required": True}
    with serving(**demands, authenticator=authenticated) as (port, mailbox):
        options = {"tls": "starttls", "ssl_context": context, "auth_mechanisms": [mechanism]}
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(port, username="user", password="wrong", **options).open()
        sender = transport(port, username="user", password="secret", **options)
        assert sender.send(Envelope(SENDER, ["a@x.org"]), CONTENT).accepted
        with pytest.raises(mailbridge.MailError):
            transport(port).send(Envelope(SENDER, ["b@x.org"]), CONTENT)
    assert [recipients for recipients, *_ in mailbox.stored] == [["a@x.org"]]


def test_batch() -> None:
    mails = [(Envelope(SENDER, [f"r{n}@x.org"]), CONTENT + b"%d\r\n" % n) for n in range(20)]
    with serving() as (port, mailbox):
        assert all(report.accepted for report in transport(port).send_many(mails))
    contents = [content for _, content, _ in mailbox.stored]
    assert contents == [content for _, content in mails]


def test_lmtp() -> None:
    """One recipient each: aiosmtpd gives one reply for all, where RFC 2033 wants one for each."""
    with serving(Lmtp) as (port, mailbox):
        sender = transport(port, lmtp=True)
        assert sender.send(Envelope(SENDER, ["a@x.org"]), CONTENT).accepted
        assert sender.send(Envelope(SENDER, ["b@x.org"]), CONTENT).accepted
    assert len(mailbox.stored) == 2
