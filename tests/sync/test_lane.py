"""A batch in its lane, over a real socket: what becomes of a mail when something goes wrong.

Most servers here say yes to two mails, which brings the third into the lane, and do something else
with that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mailbridge
from mailbridge import DeliveryReport, Envelope, convoy
from mailbridge.testing import TestCA
from tests.sync.servers import (
    GRANTED,
    PATIENCE,
    PIPELINING,
    Gone,
    Peer,
    RawServer,
    drip,
    leave,
    reset,
)
from tests.sync.support import CC, SENDER, TO, transport

KIND = 3
MAILS = 6


def mails(size: int = 20) -> Iterator[tuple[Envelope, bytes]]:
    for number in range(MAILS):
        text = b"Subject: %d\r\n\r\n" % number
        yield Envelope(SENDER, [TO]), text + b"x" * 50 + b"\r\n" + b"y\r\n" * (size // 3)


def envelope(peer: Peer) -> None:
    for verb in ("MAIL", "RCPT", "DATA"):
        assert peer.line().startswith(verb)


def kind(peer: Peer, count: int = KIND) -> None:
    """Take so many mails, each with the next one's group behind it; that is not answered yet."""
    peer.until("MAIL", ehlo=PIPELINING)
    peer.line(), peer.line()
    peer.say(*GRANTED)
    for number in range(count):
        peer.read_content()
        envelope(peer)
        if number < count - 1:
            peer.say("250 2.0.0 Ok: queued", *GRANTED)


def goes_on(peer: Peer) -> None:
    """Everything that comes, one by one."""
    while True:
        verb = peer.line().split(" ")[0]
        if verb == "DATA":
            peer.say("354 go on")
            peer.read_content()
        peer.say("221 Bye" if verb == "QUIT" else "250 Ok")


def batch(
    then: Callable[[Peer], None], *, size: int = 20, buffer: int | None = None, **options: Any
) -> list[DeliveryReport]:
    """The reports on a batch to a server that does this with the third mail, and others kindly."""

    def dialogue(peer: Peer) -> None:
        kind(peer)
        then(peer)
        goes_on(peer)

    def later(peer: Peer) -> None:
        peer.until("QUIT", ehlo=("250 raw.example",))

    with RawServer(dialogue, later, receive_buffer=buffer) as server:
        reports = list(transport(server, **options).send_many(mails(size)))
        mailbridge.close_pools()
    return reports


def states(reports: list[DeliveryReport]) -> str:
    """The first letter of each mail's state."""
    return "".join(str(report[TO].state)[0] for report in reports)


def refuse_content(peer: Peer) -> None:
    peer.say("554 5.6.0 no", *GRANTED)
    peer.read_content()
    envelope(peer)
    peer.say("250 Ok", *GRANTED)
    peer.read_content()
    peer.say("250 Ok")


def refuse_the_next(peer: Peer) -> None:
    peer.say("250 Ok", "250 Ok", "550 5.1.1 no", "503 no")


def say_yes_and_leave(peer: Peer) -> None:
    peer.say("250 Ok", *GRANTED)
    peer.read_content()
    raise Gone


def close_the_service(peer: Peer) -> None:
    peer.say("421 4.3.2 closing")
    raise Gone


def say_half(peer: Peer) -> None:
    peer.say("250 Ok")
    peer.say(*GRANTED)
    _rest(peer)


def octet_by_octet(peer: Peer) -> None:
    for octet in "\r\n".join(("250 2.0.0 Ok", *GRANTED, "")).encode():
        peer.send(bytes([octet]))
    _rest(peer)


def say_too_much(peer: Peer) -> None:
    peer.say("250 Ok", *GRANTED, "250 Ok")
    peer.wait_for_close()
    raise Gone


def speak_in_lines(peer: Peer) -> None:
    peer.say("250-2.0.0 Ok", "250 2.0.0 queued", "250-2.1.0", *GRANTED)
    _rest(peer)


def no_reply(peer: Peer) -> None:
    peer.say("hello")
    peer.wait_for_close()
    raise Gone


def _rest(peer: Peer) -> None:
    """The three mails behind the third."""
    for _ in range(MAILS - KIND - 1):
        peer.read_content()
        envelope(peer)
        peer.say("250 Ok", *GRANTED)
    peer.read_content()
    peer.say("250 Ok")


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (refuse_content, "aaraaa"),
        (refuse_the_next, "aaaraa"),
        (say_yes_and_leave, "aaaiaa"),
        (leave, "aaiaaa"),
        (reset, "aaiaaa"),
        (close_the_service, "aanaaa"),
        (say_half, "aaaaaa"),
        (octet_by_octet, "aaaaaa"),
        # The fourth is not sent any more where the next reply would be mistaken, but again.
        (say_too_much, "aaaaaa"),
        (speak_in_lines, "aaaaaa"),
        (no_reply, "aaiaaa"),
    ],
)
def test_whatever_comes_of_the_third(then: Callable[[Peer], None], expected: str) -> None:
    reports = batch(then)
    assert states(reports) == expected
    for report in reports:
        if not report.all_accepted:
            assert report.error is not None or report.refused
            assert report.transcript
            assert any("octets of content" in line for line in report.transcript)


def grant_and_leave(peer: Peer) -> None:
    peer.say(*GRANTED)
    raise Gone


def speak_unasked(peer: Peer) -> None:
    peer.say("250 2.0.0 Ok: what for?")


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("at", "text", "then"),
    [
        (2, "text", leave),
        (4, "text", leave),
        (4, "text", reset),
        (4, "text", speak_unasked),
        (4, "text", grant_and_leave),
        (4, "t\u00e9xt", leave),
        (4, "t\u00e9xt", speak_unasked),
        (4, "t\u00e9xt", grant_and_leave),
        (MAILS, "text", leave),
        (MAILS, "text", reset),
        (MAILS, "t\u00e9xt", reset),
    ],
)
def test_nothing_is_written_to_a_server_that_has_gone_while_the_next_mail_took_its_time(
    monkeypatch: pytest.MonkeyPatch,
    ca: TestCA,
    at: int,
    text: str,
    then: Callable[[Peer], None],
    tls: bool,
) -> None:
    """In a lane, and out of it: the mail that waits is not in doubt, and goes elsewhere."""
    monkeypatch.setattr(convoy, "PAUSE", 0.0)
    context, wanted, done = ca.server_context("127.0.0.1"), threading.Event(), threading.Event()
    options = {"tls": "implicit", "ca_file": ca.ca_file} if tls else {}

    def dialogue(peer: Peer) -> None:
        if tls:
            peer.start_tls(context)
        kind(peer, at - 1)
        peer.say("250 2.0.0 Ok: queued", *(() if then is grant_and_leave else GRANTED))
        assert wanted.wait(PATIENCE)
        try:
            then(peer)
        except Gone:
            peer.sock.close()
        done.set()
        peer.wait_for_close()

    def later(peer: Peer) -> None:
        if tls:
            peer.start_tls(context)
        peer.until("QUIT", ehlo=("250 raw.example",))

    def slowly() -> Iterator[tuple[Envelope, bytes]]:
        for number in range(MAILS + 1):
            if number == at:
                wanted.set()
                assert done.wait(PATIENCE)
            if number < MAILS:
                yield Envelope(SENDER, [TO]), f"Subject: {number}\r\n\r\n{text}\r\n".encode()

    with RawServer(dialogue, later) as server:
        reports = list(transport(server, **options).send_many(slowly()))
        mailbridge.close_pools()
    assert states(reports) == "a" * MAILS
    assert [report.attempts for report in reports].index(2) == at - 1


def test_silence_is_waited_for_once() -> None:
    began = time.monotonic()
    reports = batch(Peer.wait_for_close, final_reply_timeout=0.5)
    assert time.monotonic() - began < 5
    assert states(reports) == "aaiaaa"
    assert isinstance(reports[2].error, mailbridge.DeliveryInDoubtTimeout)
    assert "timed out after 0.5 s" in str(reports[2].error)


def test_a_server_that_drips_has_no_longer() -> None:
    """The time for a reply runs from the write on, however many octets of it come."""

    reports = batch(drip, final_reply_timeout=1.0)
    assert states(reports) == "aaiaaa"
    assert reports[2].seconds is not None
    assert 1.0 <= reports[2].seconds < 1.9


def test_a_content_that_is_not_read_at_once() -> None:
    """More than the kernel takes: the rest of it is written the long way."""
    reports = batch(say_half, size=60_000, buffer=2048)
    assert states(reports) == "aaaaaa"


def test_refused_in_the_middle_of_what_the_kernel_does_not_take() -> None:
    def dialogue(peer: Peer) -> None:
        kind(peer, 2)
        peer.say("250 Ok", *GRANTED)
        peer.receive()
        peer.say("552 5.3.4 too large")
        peer.read_content()
        envelope(peer)

    def later(peer: Peer) -> None:
        peer.until("QUIT", ehlo=("250 raw.example",))

    with RawServer(dialogue, later, receive_buffer=2048) as server:
        reports = list(transport(server).send_many(mails(60_000)))
        mailbridge.close_pools()
    assert states(reports) == "aaraaa"
    assert reports[2][TO].reply.code == 552


@pytest.mark.parametrize("then", [say_yes_and_leave, refuse_content, say_half, reset])
def test_the_same_in_tls(ca: TestCA, then: Callable[[Peer], None]) -> None:
    """A reply comes in records; the connection ends with or without a good-bye."""
    plain = batch(then)

    def dialogue(peer: Peer) -> None:
        peer.start_tls(ca.server_context("127.0.0.1"))
        kind(peer)
        then(peer)
        goes_on(peer)

    def later(peer: Peer) -> None:
        peer.start_tls(ca.server_context("127.0.0.1"))
        peer.until("QUIT", ehlo=("250 raw.example",))

    with RawServer(dialogue, later) as server:
        sender = transport(server, tls="implicit", ca_file=ca.ca_file)
        reports = list(sender.send_many(mails()))
        mailbridge.close_pools()
    assert states(reports) == states(plain)


def test_two_recipients() -> None:
    both = Envelope(SENDER, [TO, CC])

    def dialogue(peer: Peer) -> None:
        peer.until("MAIL", ehlo=PIPELINING)
        peer.line(), peer.line(), peer.line()
        peer.say(GRANTED[0], GRANTED[1], GRANTED[1], GRANTED[2])
        for number in range(5):
            peer.read_content()
            if number < 4:
                peer.line(), peer.line(), peer.line(), peer.line()
                refused = "450 4.2.1 later" if number == 2 else GRANTED[1]
                peer.say("250 Ok", GRANTED[0], GRANTED[1], refused, GRANTED[2])
            else:
                peer.say("250 Ok")
        goes_on(peer)

    with RawServer(dialogue) as server:
        reports = list(transport(server).send_many([(both, b"text\r\n")] * 5))
        mailbridge.close_pools()
    assert [(len(report.accepted), report.deferred) for report in reports] == [
        (2, ()),
        (2, ()),
        (2, ()),
        (1, (CC,)),
        (2, ()),
    ]
