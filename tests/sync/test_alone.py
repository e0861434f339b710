"""A mail by itself over a real socket, on its shortcut: whatever the server does at each step."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable

import pytest

import mailbridge
from mailbridge import SMTP
from mailbridge.protocol.alone import Alone
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
from tests.sync.support import CONTENT, ENVELOPE, TO, transport


def group(peer: Peer) -> None:
    peer.until("MAIL", ehlo=PIPELINING)
    peer.line(), peer.line()


def content(peer: Peer) -> None:
    group(peer)
    peer.say(*GRANTED)
    peer.read_content()


def silence(peer: Peer) -> None:
    peer.wait_for_close()
    raise Gone


def say(*lines: str) -> Callable[[Peer], None]:
    def dialogue(peer: Peer) -> None:
        peer.say(*lines)
        if lines[-1].startswith("354"):
            peer.read_content()
            peer.say("250 Ok")

    return dialogue


def in_pieces(*lines: str) -> Callable[[Peer], None]:
    def dialogue(peer: Peer) -> None:
        for octet in "\r\n".join((*lines, "")).encode():
            peer.send(bytes([octet]))
        if lines[-1].startswith("354"):
            peer.read_content()
            peer.say("250 Ok")

    return dialogue


CASES: dict[str, tuple[Callable[[Peer], None], Callable[[Peer], None], str, type | None]] = {
    "yes": (group, say(*GRANTED), "accepted", None),
    "yes, octet by octet": (group, in_pieces(*GRANTED), "accepted", None),
    "yes, in lines": (group, say("250-a", "250 b", *GRANTED[1:]), "accepted", None),
    "no sender": (group, say("550 no", "503 no", "503 no"), "refused", mailbridge.SenderRefused),
    "no recipient": (
        group,
        say("250 Ok", "450 later", "503 no"),
        "deferred",
        mailbridge.RecipientsRefused,
    ),
    "no data": (group, say("250 Ok", "250 Ok", "451 no"), "deferred", mailbridge.MessageRefused),
    "gone after the group": (group, leave, "not_attempted", mailbridge.Disconnected),
    "reset after the group": (group, reset, "not_attempted", mailbridge.Disconnected),
    "silent after the group": (group, silence, "not_attempted", mailbridge.ReplyTimeout),
    "drips after the group": (group, drip, "not_attempted", mailbridge.ReplyTimeout),
    "closes after the group": (
        group,
        say("421 closing"),
        "not_attempted",
        mailbridge.SenderRefused,
    ),
    "no reply": (group, say("hello"), "not_attempted", mailbridge.ProtocolViolation),
    "accepted in lines": (content, say("250-a", "250 b"), "accepted", None),
    "accepted, octet by octet": (content, in_pieces("250 Ok"), "accepted", None),
    "refused": (content, say("554 no"), "refused", mailbridge.MessageRefused),
    "refused for now": (content, say("452 full"), "deferred", mailbridge.MessageRefused),
    "gone after the content": (content, leave, "in_doubt", mailbridge.DeliveryInDoubt),
    "reset after the content": (content, reset, "in_doubt", mailbridge.DeliveryInDoubt),
    "silent after the content": (content, silence, "in_doubt", mailbridge.DeliveryInDoubtTimeout),
    "drips after the content": (content, drip, "in_doubt", mailbridge.DeliveryInDoubtTimeout),
    "closes after the content": (content, say("421 bye"), "not_attempted", mailbridge.MailError),
    "says no reply to the content": (content, say("hello"), "in_doubt", mailbridge.DeliveryInDoubt),
    "asks for more": (content, say("354 more"), "in_doubt", mailbridge.DeliveryInDoubt),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("step", "then", "state", "error"), CASES.values(), ids=CASES.keys())
def test_whatever_comes(
    ca: TestCA,
    step: Callable[[Peer], None],
    then: Callable[[Peer], None],
    state: str,
    error: type | None,
    tls: bool,
) -> None:
    def dialogue(peer: Peer) -> None:
        if tls:
            peer.start_tls(ca.server_context("127.0.0.1"))
        step(peer)
        then(peer)
        peer.until("QUIT", ehlo=PIPELINING)

    options = {"tls": "implicit", "ca_file": ca.ca_file} if tls else {}
    with RawServer(dialogue) as server:
        sender = transport(server, timeout=1.0, final_reply_timeout=1.0, **options)
        report = sender.attempt(ENVELOPE, CONTENT)
        failure = report.failure()
        mailbridge.close_pools()
    assert str(report[TO].state) == state, report.error
    if error is None:
        assert failure is None
    else:
        assert isinstance(failure, error)
        assert report.transcript
    assert report.seconds is not None
    assert report.seconds < 1.9


@pytest.mark.parametrize("step", [group, content])
def test_a_reply_that_begins_late_has_no_time_of_its_own(step: Callable[[Peer], None]) -> None:
    """It is waited for since it was due, and not since its first octet."""

    def dialogue(peer: Peer) -> None:
        step(peer)
        peer.sock.settimeout(1.2)
        with contextlib.suppress(TimeoutError):
            peer.sock.recv(1)
        drip(peer)

    with RawServer(dialogue) as server:
        sender = transport(server, timeout=1.5, final_reply_timeout=1.5)
        report = sender.attempt(ENVELOPE, CONTENT)
        mailbridge.close_pools()
    assert isinstance(report.error, mailbridge.ReplyTimeout | mailbridge.DeliveryInDoubtTimeout)
    assert report.seconds is not None
    assert 1.4 < report.seconds < 2.5


@pytest.mark.parametrize(("step", "then", "state", "error"), CASES.values(), ids=CASES.keys())
def test_whatever_comes_to_sendmail(
    step: Callable[[Peer], None],
    then: Callable[[Peer], None],
    state: str,
    error: type | None,
) -> None:
    def dialogue(peer: Peer) -> None:
        step(peer)
        then(peer)
        peer.until("QUIT", ehlo=PIPELINING)

    with RawServer(dialogue) as server:
        smtp = SMTP(server.host, server.port, "me", timeout=1.0)
        if error is None:
            assert smtp.sendmail(ENVELOPE.sender, [TO], CONTENT) == {}
            assert smtp.noop()[0] == 250
        else:
            with pytest.raises(error) as caught:
                smtp.sendmail(ENVELOPE.sender, [TO], CONTENT)
            assert str(caught.value.report[TO].state) == state
        smtp.close()


def test_a_content_that_is_not_read_at_once() -> None:
    text = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" + b"y" * 70 + b"\r\n" * 20_000

    def dialogue(peer: Peer) -> None:
        content(peer)
        peer.say("250 Ok")
        peer.until("QUIT")

    with RawServer(dialogue, receive_buffer=2048) as server:
        with transport(server) as sender:
            assert sender.connection is not None
            # So small that the kernel takes a part of it only.
            sender.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
            assert sender.send(ENVELOPE, text).all_accepted
        mailbridge.close_pools()
        assert server.peers[0].content == text


def test_refused_while_it_is_written() -> None:
    def dialogue(peer: Peer) -> None:
        group(peer)
        peer.say(*GRANTED)
        peer.receive()
        peer.say("552 5.3.4 too large")
        peer.wait_for_close()

    with RawServer(dialogue, receive_buffer=2048) as server:
        report = transport(server).attempt(ENVELOPE, b"x\r\n" * 21_000)
        mailbridge.close_pools()
    assert report.refused == (TO,)
    assert report[TO].reply.code == 552


def test_a_kept_connection_that_has_died_is_not_written_to() -> None:
    """It is looked at before anything is written, and another one takes its place."""

    def dialogue(peer: Peer) -> None:
        content(peer)
        peer.say("250 Ok")
        raise Gone

    with RawServer(dialogue) as server:
        with transport(server) as sender:
            for _ in range(3):
                assert sender.send(ENVELOPE, CONTENT).all_accepted
                server.wait_until_closed()
        assert len(server.peers) == 3


@pytest.mark.parametrize("unasked", ["250 2.0.0 Ok", "421 4.3.2 closing", "250-half"])
def test_a_kept_connection_that_has_spoken_is_not_written_to(unasked: str) -> None:
    """What it says would be taken for the reply to MAIL."""
    kept, said = threading.Event(), threading.Event()

    def dialogue(peer: Peer) -> None:
        content(peer)
        peer.say("250 Ok")
        if len(server.peers) == 1:
            assert kept.wait(PATIENCE)
            peer.say(unasked)
            said.set()
            peer.line()
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        with transport(server) as sender:
            assert sender.send(ENVELOPE, CONTENT).all_accepted
            kept.set()
            assert said.wait(PATIENCE)
            connection = sender.connection
            assert connection is not None
            select.select([connection.sock], [], [], PATIENCE)
            report = sender.send(ENVELOPE, CONTENT)
        mailbridge.close_pools()
        assert report.all_accepted
        assert [peer.commands[-1] for peer in server.peers] == ["DATA", "DATA"]


@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupt_leaves_no_connection_in_the_middle_of_a_mail(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Ctrl-C at any moment: the next mail must not go on with this one's transaction."""
    way, steps = Alone.consent, 0

    def consent(alone: Alone, said: bytes) -> bool:
        nonlocal steps
        steps += 1
        if steps == step:
            raise KeyboardInterrupt
        return way(alone, said)

    def dialogue(peer: Peer) -> None:
        content(peer)
        peer.say("250 Ok")
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        with transport(server) as sender:
            monkeypatch.setattr(Alone, "consent", consent)
            with pytest.raises(KeyboardInterrupt):
                sender.send(ENVELOPE, CONTENT)
            assert sender.connection is None or not sender.connection.open
            assert sender.send(ENVELOPE, CONTENT).all_accepted
        mailbridge.close_pools()
        assert [peer.commands.count("DATA") for peer in server.peers] == [1, 1]
