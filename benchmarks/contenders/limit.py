"""What a client in Python cannot do without: the floors that the others are to be read beside.

None is a client. They can do nothing but succeed: they know no error, no time-out, no server
that answers in another way. What lies between them and `Transport.batch` is what that costs.
"""

from __future__ import annotations

import base64
import select
import socket
from collections.abc import Iterator
from email.utils import formatdate, make_msgid
from functools import partial
from typing import Any, ClassVar

from benchmarks.contenders import (
    PASSWORD,
    SENDER,
    USER,
    Job,
    Prepare,
    contender,
    django_site,
    needed,
)
from mailbridge import DeliveryReport, Envelope, RecipientResult, State
from mailbridge.message import message_id
from mailbridge.protocol.content import canonical, has_long_line, stuffed
from mailbridge.protocol.reply import Reply, ReplyParser
from mailbridge.report import Phase


class Wire:
    """A connection that has said EHLO, and nothing else."""

    def __init__(self, job: Job) -> None:
        self._sock = socket.create_connection((job.host, job.port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)
        self.exchange(b"", 1)
        said = self.exchange(b"EHLO bench.example.org\r\n", 1)
        while b"\n250 " not in b"\n" + said:
            said += self._read()

    def close(self) -> None:
        self._sock.close()

    def exchange(self, octets: bytes, replies: int) -> bytes:
        """One write, and what is read until so many lines have come: mostly one read."""
        if octets:
            self._sock.send(octets)
        said = self._read()
        while said.count(b"\n") < replies:
            said += self._read()
        return said

    def _read(self) -> bytes:
        self._poll.poll(60_000)
        said = self._sock.recv(65536)
        if not said:
            raise ConnectionError("the server has closed the connection")
        return said


def checked(content: bytes) -> bytes:
    """A content that needs nothing done to it."""
    mail = canonical(content)
    assert mail.isascii()
    assert not has_long_line(mail)
    return mail


def group_of(envelope: Envelope, size: int) -> bytes:
    """MAIL, RCPT and DATA in one write."""
    assert envelope.reverse_path is not None
    lines = [b"MAIL FROM:<%b> SIZE=%d\r\n" % (envelope.reverse_path.path(), size)]
    lines += [b"RCPT TO:<%b>\r\n" % address.path() for address in envelope.forward_paths]
    return b"".join((*lines, b"DATA\r\n"))


def consent(parser: ReplyParser, said: bytes, replies: int) -> Reply:
    """The first of so many replies, that to a content; none of them refuses."""
    parser.feed(said)
    reply, *others = [parser.next_reply() for _ in range(replies)]
    assert reply is not None
    assert reply.positive
    assert all(other is not None and other.code < 400 for other in others)
    return reply


def report_on(envelope: Envelope, content: bytes, reply: Reply) -> DeliveryReport:
    """The report on a mail that was accepted for everybody."""
    results = {
        address.text: RecipientResult(address.text, State.ACCEPTED, Phase.CONTENT, reply)
        for address in envelope.forward_paths
    }
    return DeliveryReport(results, envelope.sender, message_id(content), reply=reply)


@contender("limit.octets")
def octets(job: Job) -> Iterator[Prepare]:
    """The kernel's part: octets that were made before, in one write and one read a message."""
    group = b"MAIL FROM:<%b>\r\nRCPT TO:<%b>\r\nDATA\r\n" % (SENDER.encode(), job.to[0].encode())
    mail = stuffed(job.content()) + group
    wire = Wire(job)
    wire.exchange(group, 3)

    def run(n: int) -> None:
        for _ in range(n):
            wire.exchange(mail, 4)

    yield lambda n: partial(run, n)
    wire.close()


@contender("limit.function")
def function(job: Job) -> Iterator[Prepare]:
    """A batch in one function: addresses parsed, content checked, replies read, a report made."""
    content, to = job.content(), job.to
    wire, parser = Wire(job), ReplyParser()

    def run(n: int) -> None:
        waiting = Envelope(SENDER, to)
        replies = len(to) + 3
        wire.exchange(group_of(waiting, len(content)), replies - 1)
        for _ in range(n):
            envelope = Envelope(SENDER, to)
            mail = checked(content)
            said = wire.exchange(stuffed(mail) + group_of(envelope, len(mail)), replies)
            assert report_on(waiting, mail, consent(parser, said, replies)).accepted
            waiting = envelope
        wire.exchange(stuffed(content), 1)

    yield lambda n: partial(run, n)
    wire.close()


@contender("limit.django")
def django(job: Job) -> Iterator[Prepare]:
    """A batch of Django's messages in one function: our renderer, and what `function` does."""
    mail = django_site.configured(job, "limit")
    to_mail = needed("mailbridge_django.message", "to_mail")
    common = needed("mailbridge_django.fastpath", "Common")()
    wire, parser, replies = Wire(job), ReplyParser(), len(job.to) + 3

    def run(batch: list[Any]) -> None:
        waiting: tuple[Any, Envelope, bytes] | None = None
        for message in batch:
            envelope, content = to_mail(message, common=common)
            group = group_of(envelope, content.size)
            if waiting is None:
                wire.exchange(group, replies - 1)
            else:
                said = wire.exchange(waiting[2] + b".\r\n" + group, replies)
                heard = parser.consent(said, replies, 3)
                assert heard is not None
                waiting[0].delivery_report = report_on(*waiting[1:], heard[0])
            waiting = message, envelope, b"".join(content.pieces())
        if waiting is not None:
            said = wire.exchange(waiting[2] + b".\r\n", 1)
            waiting[0].delivery_report = report_on(*waiting[1:], consent(parser, said, 1))

    yield lambda n: partial(run, django_site.messages(job, mail, n))
    wire.close()


class TLSWire:
    """A connection with STARTTLS and AUTH PLAIN, in as few flights as there can be."""

    def __init__(self, job: Job, envelope: bytes) -> None:
        # Blocking, without a time-out: to poll before each read would be another system call.
        plain = socket.create_connection((job.host, job.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.recv(4096)
        for command in (b"EHLO bench.example.org\r\n", b"STARTTLS\r\n"):
            plain.send(command)
            plain.recv(4096)
        self._sock = job.context().wrap_socket(plain, server_hostname=job.host)
        self.exchange(b"EHLO bench.example.org\r\n")
        login = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
        #: The replies to the login and to the first envelope.
        self.said = self.exchange(b"AUTH PLAIN %b\r\n%b" % (login, envelope))

    def exchange(self, octets: bytes) -> bytes:
        """One write and one read, in which all the replies are."""
        self._sock.send(octets)
        return self._sock.recv(4096)

    def close(self) -> None:
        self._sock.close()


class Backend:
    """Django's messages by one template, to a server that takes them, over one connection.

    No settings are looked at, no addresses parsed, no replies read, and nobody is told.
    """

    job: ClassVar[Job]
    wire: ClassVar[TLSWire | None] = None

    def __init__(self, **options: Any) -> None:
        """Whatever Django gives is for backends that look at it."""

    def send_messages(self, messages: list[Any]) -> int:
        for message in messages:
            self._deliver(message)
        return len(messages)

    def _deliver(self, message: Any) -> None:
        sender, recipient = message.from_email.encode(), message.to[0].encode()
        envelope = b"MAIL FROM:<%b>\r\nRCPT TO:<%b>\r\nDATA\r\n" % (sender, recipient)
        wire = Backend.wire
        if wire is None:
            wire = Backend.wire = TLSWire(self.job, envelope)
        else:
            wire.exchange(envelope)
        content = (
            f"From: {message.from_email}\r\nTo: {', '.join(message.to)}\r\n"
            f"Subject: {message.subject}\r\nDate: {formatdate()}\r\nMessage-ID: {make_msgid()}\r\n"
            'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n\r\n'
        ) + message.body.replace("\n", "\r\n")
        assert wire.exchange(content.encode() + b".\r\n").startswith(b"250")


@contender("limit.send_mail")
def send_mail(job: Job) -> Iterator[Prepare]:
    """Django's send_mail() with a backend that does nothing but send."""
    Backend.job = job
    yield from django_site.send_mail(job, "limit")
    if Backend.wire is not None:
        Backend.wire.close()
