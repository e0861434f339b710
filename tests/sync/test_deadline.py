"""A deadline for a whole send: whatever it waits for, it is over by then, and says how it ended."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mailbridge
from mailbridge import (
    ConnectTimeout,
    DeliveryInDoubtTimeout,
    Envelope,
    OptionError,
    PoolTimeout,
    ReplyTimeout,
    RetryPolicy,
    Transport,
)
from mailbridge.deadline import GRAIN, Deadline, is_over
from mailbridge.sync.pool import pool_for
from mailbridge.testing import ScriptedServer
from tests.sync.servers import LOCK_STEP
from tests.sync.support import BOTH, CONTENT, ENVELOPE, TO, transport

SOON = 0.2
# Long enough for a busy machine to come as far as the point that a test is about.
LATER = 1.0
SAYS = r"the deadline of [0-3.]+ s for this send"


def hurried(smtpd: ScriptedServer, deadline: float | None = SOON, **options: Any) -> Transport:
    """A transport that has a deadline, and otherwise all the time of the world."""
    routes = {name: options.pop(name) for name in ("retry", "relays") if name in options}
    relay = transport(smtpd, timeout=60, **options).relay
    others = routes.pop("relays", [])
    return Transport([relay, *others], deadline=deadline, **routes)


@contextmanager
def in_time(seconds: float = 10) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


@pytest.mark.parametrize("point", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
def test_nothing_was_handed_over(point: str) -> None:
    with ScriptedServer(extensions=LOCK_STEP) as smtpd:
        smtpd.silent(point)
        with in_time(), pytest.raises(ReplyTimeout, match=SAYS) as caught:
            hurried(smtpd, LATER).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert "Raise deadline" in str(caught.value)


@pytest.mark.parametrize("extensions", [LOCK_STEP, ("PIPELINING", "CHUNKING")])
def test_behind_the_final_dot_it_is_in_doubt(extensions: tuple[str, ...]) -> None:
    with ScriptedServer(extensions=extensions) as smtpd:
        smtpd.silent("CONTENT")
        with in_time(), pytest.raises(DeliveryInDoubtTimeout, match=SAYS) as caught:
            hurried(smtpd, LATER).send(ENVELOPE, CONTENT)
        assert caught.value.report.in_doubt == (TO,)


def test_a_reader_that_stops(smtpd: ScriptedServer) -> None:
    """In the middle of the content: nobody has the mail."""
    smtpd.without("CHUNKING", "SIZE")
    smtpd.silent("IN_CONTENT")
    large = (b"x" * 76 + b"\r\n") * 200_000
    with in_time(), pytest.raises(ReplyTimeout, match=SAYS) as caught:
        hurried(smtpd, LATER).send(ENVELOPE, large)
    assert caught.value.report.not_attempted == (TO,)


def test_waiting_for_the_pool(smtpd: ScriptedServer) -> None:
    with hurried(smtpd, None, max_connections=1) as other:
        with in_time(), pytest.raises(PoolTimeout, match=f"within {SAYS}.*Raise .*deadline"):
            Transport(other.relay, deadline=SOON).send(ENVELOPE, CONTENT)
        assert other.send(ENVELOPE, CONTENT).accepted


def test_looking_up_the_name(smtpd: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times: that we had no time is no failure of the relay's, and no breaker counts it."""
    answered = threading.Event()
    real = socket.getaddrinfo

    def silent(*args: Any) -> Any:
        answered.wait(10)
        return real("127.0.0.1", *args[1:])

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    sender = hurried(smtpd, host="mx.example.test")
    try:
        for _ in range(6):
            with in_time(), pytest.raises(ConnectTimeout, match=f"within {SAYS}"):
                sender.send(ENVELOPE, CONTENT)
    finally:
        answered.set()
    assert sender.send(ENVELOPE, CONTENT, deadline=10).accepted


def test_other_tries(smtpd: ScriptedServer) -> None:
    smtpd.defer("*")
    patient = hurried(smtpd, LATER, retry=RetryPolicy(tries=1000, delay=0.1))
    # The last try may be under way when it is over.
    with in_time(), pytest.raises((mailbridge.RecipientsRefused, ReplyTimeout)) as caught:
        patient.send(ENVELOPE, CONTENT)
    assert caught.value.report.accepted == ()
    assert 1 <= caught.value.report.attempts < 1000


def test_other_relays(smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second:
        smtpd.silent("GREETING")
        with pytest.raises(ReplyTimeout, match=SAYS) as caught:
            hurried(smtpd, LATER, relays=[transport(second).relay]).send(ENVELOPE, CONTENT)
        assert caught.value.report.attempts == 1
        assert caught.value.report.relay == f"127.0.0.1:{smtpd.port}"


def test_a_timer_that_rings_a_little_early() -> None:
    """What says that it is over, and what asks how long there is left, say the same."""
    almost = Deadline(1, time.monotonic() + GRAIN / 2)
    assert is_over(almost)
    assert almost.left == 0
    later = Deadline.after(10)
    assert not is_over(later)
    assert 0 < later.left <= 10


def test_a_limit_by_the_second(smtpd: ScriptedServer) -> None:
    """Too late is told at once, and the mail that was not sent is not counted."""
    sender = hurried(smtpd, 3, max_per_second=0.25)
    assert sender.send(ENVELOPE, CONTENT).accepted
    bucket = pool_for(sender.relay).bucket
    for _ in range(3):
        with in_time(2.5), pytest.raises(PoolTimeout, match=f"max_per_second .* after {SAYS}"):
            sender.send(ENVELOPE, CONTENT, deadline=1)  # in three seconds there would be time
    assert bucket is not None
    assert bucket.tokens > -1
    assert sender.send(ENVELOPE, CONTENT, deadline=10).accepted


def test_a_limit_by_the_second_in_a_batch() -> None:
    """The envelope of the mail that is too late is on its way: nobody else's may follow it."""
    with ScriptedServer(extensions=["PIPELINING"]) as smtpd:
        sender = hurried(smtpd, LATER, max_per_second=0.05)
        bucket = pool_for(sender.relay).bucket
        assert bucket is not None

        def mails() -> Iterator[tuple[Envelope, bytes]]:
            for number in range(4):
                if number == 3:
                    bucket.tokens = 1.0  # By now there is time for the one before.
                yield Envelope("me@example.org", [f"{number}@example.org"]), b"%d\r\n" % number

        reports = list(sender.send_many(mails()))
        errors = [type(report.error) for report in reports]
        assert errors == [type(None), PoolTimeout, type(None), PoolTimeout]
        assert [len(report.accepted) for report in reports] == [1, 0, 1, 0]
        taken = [(message.recipients, message.content) for message in smtpd.messages]
        assert taken == [(("0@example.org",), b"0\r\n"), (("2@example.org",), b"2\r\n")]


def test_interrupted_while_a_batch_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kept connection with an envelope on its way is kept no longer."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with ScriptedServer(extensions=["PIPELINING"]) as smtpd:
        with hurried(smtpd, None, max_per_second=0.01) as sender:
            bucket = pool_for(sender.relay).bucket
            assert bucket is not None
            reports = sender.send_many([(ENVELOPE, CONTENT)] * 3)
            assert next(reports).accepted
            monkeypatch.setattr(time, "sleep", interrupt)
            with pytest.raises(KeyboardInterrupt):
                next(reports)
            monkeypatch.undo()
            bucket.tokens = 1.0
            assert sender.send(Envelope("a@example.org", ["other@example.com"]), CONTENT).accepted
        assert [message.recipients for message in smtpd.messages] == [(TO,), ("other@example.com",)]


def test_waiting_for_the_token_of_another_thread() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def provider() -> str:
        asked.set()
        go_on.wait(10)
        return "token"

    with ScriptedServer(users={"me": "token"}, mechanisms=["XOAUTH2"]) as smtpd:
        slow = hurried(smtpd, None, username="me", token_provider=provider)
        first = threading.Thread(target=slow.send, args=(ENVELOPE, CONTENT))
        first.start()
        try:
            assert asked.wait(10)
            with in_time(), pytest.raises(ReplyTimeout, match=f"{SAYS} is over, waiting for a"):
                Transport(slow.relay, deadline=SOON).send(ENVELOPE, CONTENT)
        finally:
            go_on.set()
            first.join(10)
        assert len(smtpd.messages) == 1


@pytest.mark.parametrize(
    "send",
    [
        lambda sender, deadline: sender.send(BOTH, CONTENT, deadline=deadline),
        lambda sender, deadline: sender.attempt(BOTH, CONTENT, deadline=deadline),
        lambda sender, deadline: list(sender.send_many([(BOTH, CONTENT)], deadline=deadline)),
    ],
)
def test_for_one_send(
    smtpd: ScriptedServer, send: Callable[[Transport, object], mailbridge.DeliveryReport]
) -> None:
    """What is said of one send counts before what was said of all."""
    smtpd.delay("MAIL", 0.4)
    assert send(hurried(smtpd), "10")
    with pytest.raises(OptionError, match="deadline 'soon' is no number of seconds"):
        send(hurried(smtpd), "soon")


@pytest.mark.parametrize("wrong", [0, -1, "soon", float("inf")])
def test_what_is_no_deadline(wrong: object) -> None:
    with pytest.raises(OptionError, match=r"^deadline "):
        Transport("smtp://mx.example.org", deadline=wrong)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_each_mail_of_a_batch_has_its_own(smtpd: ScriptedServer, concurrency: int) -> None:
    smtpd.delay("CONTENT", 0.3)
    mails = [(ENVELOPE, CONTENT)] * 5
    reports = hurried(smtpd, 1.3).send_many(mails, concurrency=concurrency)
    assert [report.accepted for report in reports] == [(TO,)] * 5


def test_the_one_that_is_late_does_not_cost_the_others(smtpd: ScriptedServer) -> None:
    smtpd.silent("CONTENT", times=1)
    one, two, three = hurried(smtpd, LATER).send_many([(ENVELOPE, CONTENT)] * 3)
    assert one.in_doubt == two.accepted == three.accepted == (TO,)


def test_a_kept_connection_has_no_deadline_of_its_own(smtpd: ScriptedServer) -> None:
    with hurried(smtpd, LATER) as sender:
        assert sender.send(ENVELOPE, CONTENT).accepted
        threading.Event().wait(1.2 * LATER)
        assert sender.send(ENVELOPE, CONTENT).accepted
        assert smtpd.connections == 1


def test_opening(smtpd: ScriptedServer) -> None:
    smtpd.silent("EHLO")
    with in_time(), pytest.raises(ReplyTimeout, match=SAYS):
        hurried(smtpd, LATER).open()
