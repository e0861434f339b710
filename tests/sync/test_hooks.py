"""before_final_dot and after_reply: what they are told, and what an exception in them does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import mailbridge
from mailbridge import (
    DeliveryInDoubt,
    Envelope,
    Handover,
    OptionError,
    RetryPolicy,
    SendStopped,
    Transport,
)
from mailbridge.testing import ScriptedServer
from tests.sync.servers import LOCK_STEP
from tests.sync.support import BOTH, CC, CONTENT, ENVELOPE, SENDER, TO, transport, verbs

WAYS = {
    "lock-step": LOCK_STEP,
    "pipelined": ("PIPELINING", "SIZE"),
    "chunks": ("PIPELINING", "CHUNKING"),
    "chunks in lock-step": ("CHUNKING",),
}
MAIL = b"Message-ID: <1@x>\r\n" + CONTENT
LARGE = MAIL + (b"x" * 76 + b"\r\n") * 40_000  # three chunks


class Ledger:
    """Notes what it is told; objects as often as it is told to."""

    def __init__(self, objections: int = 0) -> None:
        self.told: list[tuple[str, Handover]] = []
        self.objections = objections

    def before(self, handover: Handover) -> None:
        self.told.append(("before", handover))
        if self.objections:
            self.objections -= 1
            raise LookupError("sent before")

    def after(self, handover: Handover) -> None:
        self.told.append(("after", handover))

    def names(self) -> list[str]:
        return [name for name, _ in self.told]


def watched(server: Any, ledger: Ledger, **options: Any) -> Transport:
    route = {name: options.pop(name) for name in ("retry", "on_refused") if name in options}
    relay = transport(server, **options).relay
    return Transport(relay, before_final_dot=ledger.before, after_reply=ledger.after, **route)


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS)
def test_what_they_are_told(way: str, content: bytes) -> None:
    ledger = Ledger()
    with ScriptedServer(extensions=WAYS[way]) as smtpd:
        smtpd.refuse(CC)
        report = watched(smtpd, ledger, on_refused="report").send(BOTH, content)
        relay = f"{smtpd.host}:{smtpd.port}"
    before, after = [handover for _, handover in ledger.told]
    assert ledger.names() == ["before", "after"]
    assert before == Handover("<1@x>", SENDER, (TO,), relay, 1)
    assert after == Handover("<1@x>", SENDER, (TO,), relay, 1, report.reply)
    assert after.reply.positive


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("way", WAYS)
def test_an_objection_stops_it(way: str, content: bytes) -> None:
    """No end of the content is ever seen by the server; the next mail goes out all the same."""
    ledger = Ledger(objections=1)
    with ScriptedServer(extensions=WAYS[way]) as smtpd:
        # Whoever waits for an answer to what the server takes for content waits for long.
        sender = watched(smtpd, ledger, timeout=30)
        started = time.monotonic()
        with pytest.raises(SendStopped, match="LookupError: sent before") as caught:
            sender.send(ENVELOPE, content)
        assert time.monotonic() - started < 10
        error = caught.value
        assert isinstance(error.__cause__, LookupError)
        assert error.report.not_attempted == (TO,)
        assert (error.phase, error.retryable) == ("content", False)
        assert error.session_usable == error.report.session_usable == way.startswith("chunks")
        assert sender.send(ENVELOPE, content).accepted
        (message,) = smtpd.messages
        assert message.content == content
        assert smtpd.connections == (1 if way.startswith("chunks") else 2)
    assert ledger.names() == ["before", "before", "after"]


@pytest.mark.parametrize("way", WAYS)
def test_in_a_batch(way: str) -> None:
    ledger = Ledger()

    def third_objects(handover: Handover) -> None:
        ledger.before(handover)
        if handover.message_id == "<2@x>":
            raise LookupError

    mails = [(ENVELOPE, b"Message-ID: <%d@x>\r\n" % n + CONTENT) for n in range(5)]
    with ScriptedServer(extensions=WAYS[way]) as smtpd:
        relay = transport(smtpd).relay
        sender = Transport(relay, before_final_dot=third_objects, after_reply=ledger.after)
        reports = list(sender.send_many(mails))
        assert [bool(report.accepted) for report in reports] == [True, True, False, True, True]
        assert isinstance(reports[2].error, SendStopped)
        assert [m.message["Message-ID"] for m in smtpd.messages] == [
            "<0@x>",
            "<1@x>",
            "<3@x>",
            "<4@x>",
        ]
        assert smtpd.connections == (1 if way.startswith("chunks") else 2)
    assert [handover.message_id for name, handover in ledger.told if name == "before"] == [
        f"<{n}@x>" for n in range(5)
    ]


def test_a_window_waits_for_them() -> None:
    """Who may object has to know first who was accepted."""
    ledger = Ledger(objections=1)
    with ScriptedServer(extensions=("PIPELINING", "CHUNKING")) as smtpd:
        sender = watched(smtpd, ledger, bdat_window=4)
        first, *others = sender.send_many([(ENVELOPE, MAIL)] * 4)
        assert isinstance(first.error, SendStopped)
        assert [report.accepted for report in others] == [(TO,)] * 3
        assert len(smtpd.messages) == 3
    assert ledger.names() == ["before", *["before", "after"] * 3]


def test_no_reply_no_call(smtpd: ScriptedServer) -> None:
    """What is in doubt stays so."""
    ledger = Ledger()
    smtpd.drop("CONTENT")
    with pytest.raises(DeliveryInDoubt):
        watched(smtpd, ledger).send(ENVELOPE, MAIL)
    assert ledger.names() == ["before"]


def test_nobody_to_hand_it_to(smtpd: ScriptedServer) -> None:
    ledger = Ledger()
    smtpd.refuse(TO)
    assert watched(smtpd, ledger).attempt(ENVELOPE, MAIL).refused == (TO,)
    smtpd.reply("MAIL", "550 No")
    assert watched(smtpd, ledger).attempt(ENVELOPE, MAIL).refused == (TO,)
    assert ledger.told == []


def test_a_refused_content_is_a_reply(smtpd: ScriptedServer) -> None:
    ledger = Ledger()
    smtpd.reply("CONTENT", "554 5.7.1 No")
    assert watched(smtpd, ledger).attempt(ENVELOPE, MAIL).refused == (TO,)
    assert ledger.told[-1][1].reply.code == 554


def test_other_tries_are_counted(smtpd: ScriptedServer) -> None:
    """The second is for the one that was deferred, and for that one alone."""
    ledger = Ledger()
    smtpd.defer(CC, times=1)
    sender = watched(smtpd, ledger, retry=RetryPolicy(tries=2, delay=0.001))
    assert sender.send(BOTH, MAIL).accepted == (TO, CC)
    told = [(name, h.recipients, h.attempt) for name, h in ledger.told]
    assert told == [
        *(("before", (TO,), 1), ("after", (TO,), 1)),
        *(("before", (CC,), 2), ("after", (CC,), 2)),
    ]


def test_a_dead_connection_counts_as_an_attempt(smtpd: ScriptedServer) -> None:
    ledger = Ledger()
    with watched(smtpd, ledger) as sender:
        sender.send(ENVELOPE, MAIL)
        smtpd.drop("MAIL", times=1)
        sender.send(ENVELOPE, MAIL)
    assert [handover.attempt for _, handover in ledger.told] == [1, 1, 2, 2]


def test_further_transactions(smtpd: ScriptedServer) -> None:
    ledger = Ledger()
    smtpd.max_recipients = 1
    assert watched(smtpd, ledger).send(BOTH, MAIL).accepted == (TO, CC)
    assert [handover.recipients for _, handover in ledger.told] == [(TO,), (TO,), (CC,), (CC,)]


def test_an_objection_to_the_second_transaction(smtpd: ScriptedServer) -> None:
    """Who has the mail has it."""
    smtpd.max_recipients = 1
    calls: list[Handover] = []

    def once(handover: Handover) -> None:
        calls.append(handover)
        if len(calls) == 2:
            raise LookupError

    sender = Transport(transport(smtpd).relay, before_final_dot=once)
    report = sender.attempt(BOTH, MAIL)
    assert (report.accepted, report.not_attempted) == ((TO,), (CC,))
    assert isinstance(report.error, SendStopped)


def test_lmtp_answers_for_each() -> None:
    ledger = Ledger()
    with ScriptedServer(lmtp=True) as smtpd:
        smtpd.reply("CONTENT", "451 4.2.2 Full", recipient=CC)
        report = watched(smtpd, ledger, lmtp=True, on_refused="report").send(BOTH, MAIL)
        assert (report.accepted, report.deferred) == ((TO,), (CC,))
    told = [(name, h.recipients, h.reply and h.reply.code) for name, h in ledger.told]
    assert told == [("before", (TO, CC), None), ("after", (TO,), 250), ("after", (CC,), 451)]


def test_an_exception_after_the_reply_changes_nothing(
    smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(handover: Handover) -> None:
        raise LookupError("the ledger is gone")

    sender = Transport(transport(smtpd).relay, after_reply=fail)
    with caplog.at_level(logging.ERROR, "mailbridge"):
        assert sender.send(ENVELOPE, MAIL).accepted
    assert "the ledger is gone" in caplog.text


def test_coroutines(smtpd: ScriptedServer) -> None:
    told: list[Handover] = []

    async def note(handover: Handover) -> None:
        told.append(handover)

    async def object_to(handover: Handover) -> None:
        raise LookupError

    relay = transport(smtpd).relay
    assert Transport(relay, before_final_dot=note, after_reply=note).send(ENVELOPE, MAIL).accepted
    assert len(told) == 2
    with pytest.raises(SendStopped):
        Transport(relay, before_final_dot=object_to).send(ENVELOPE, MAIL)


@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_that_comes_while_they_run(way: str) -> None:
    """Before: nothing was handed over, so nothing is in doubt. After: who has the mail has it."""
    never = threading.Event()

    def late(deadline: float) -> Callable[[Handover], None]:
        def wait(handover: Handover) -> None:
            never.wait(deadline + 0.1)

        return wait

    with ScriptedServer(extensions=WAYS[way]) as smtpd:
        relay = transport(smtpd).relay
        report = Transport(relay, before_final_dot=late(0.4), deadline=0.4).attempt(ENVELOPE, MAIL)
        assert report.not_attempted == (TO,)
        assert isinstance(report.error, TimeoutError)
        assert smtpd.messages == ()
        report = Transport(relay, after_reply=late(1), deadline=1).attempt(ENVELOPE, MAIL)
        assert report.accepted == (TO,)
        assert report.error is None


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupt_hands_nothing_over(way: str) -> None:
    def interrupt(handover: Handover) -> None:
        raise KeyboardInterrupt

    with ScriptedServer(extensions=WAYS[way]) as smtpd:
        with pytest.raises(KeyboardInterrupt):
            Transport(transport(smtpd).relay, before_final_dot=interrupt).send(ENVELOPE, MAIL)
        assert transport(smtpd).send(ENVELOPE, CONTENT).accepted
        assert [message.content for message in smtpd.messages] == [CONTENT]
        assert smtpd.connections == 2


def test_the_row_is_written_before_the_end_of_the_content_leaves() -> None:
    """The server has no whole mail while the hook is running."""
    with ScriptedServer(extensions=LOCK_STEP) as smtpd:
        waited = threading.Event()

        def look(handover: Handover) -> None:
            waited.wait(0.2)
            assert smtpd.messages == ()
            assert verbs(smtpd)[-1] == "DATA"

        sender = Transport(transport(smtpd).relay, before_final_dot=look)
        assert sender.send(Envelope(SENDER, [TO]), MAIL).accepted


@pytest.mark.parametrize("name", ["before_final_dot", "after_reply"])
def test_what_is_no_hook(name: str) -> None:
    for wrong in (1, "no.such.module", "tests.sync.test_hooks:MAIL"):
        with pytest.raises(OptionError, match=name):
            Transport("smtp://mx.example.org", **{name: wrong})
    assert Transport("smtp://mx.example.org", **{name: "builtins:print"}).hooks is not None
    assert mailbridge.Transport("smtp://mx.example.org").hooks is None
