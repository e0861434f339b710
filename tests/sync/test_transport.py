"""Transport: one connection, many mails, policies, reports; and who heals what."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import mailbridge
from mailbridge import DeliveryReport, Envelope, Esmtp, Transport
from mailbridge.protocol.lane import Lane
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import BOTH, CC, CONTENT, ENVELOPE, SENDER, TO, transport, verbs

POLICIES = ["raise", "raise_if_all", "abort", "report"]

# -- policies


@pytest.mark.parametrize("policy", POLICIES)
def test_none_refused(smtpd: ScriptedServer, policy: str) -> None:
    assert transport(smtpd, policy).send(BOTH, CONTENT).accepted == (TO, CC)


@pytest.mark.parametrize("code", [550, 450])
@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ("raise", mailbridge.SomeRecipientsRefused),
        ("raise_if_all", None),
        ("abort", mailbridge.RecipientsRefused),
        ("report", None),
    ],
)
def test_some_refused(
    smtpd: ScriptedServer,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    error: type[mailbridge.RecipientsRefused] | None,
    code: int,
) -> None:
    smtpd.refuse(CC, code, "no thanks")
    caplog.set_level(logging.WARNING)
    report = _send(smtpd, policy, error)
    state = report.refused if code == 550 else report.deferred
    assert state == (CC,)
    assert report.recipients[CC].reply.code == code
    if policy == "abort":
        assert (report.accepted, report.not_attempted) == ((), (TO,))
        assert smtpd.messages == ()
        assert verbs(smtpd)[-1] == "RSET"
        assert "DATA" not in verbs(smtpd)
    else:
        assert report.accepted == (TO,)
        assert smtpd.envelopes == ((SENDER, (TO,)),)
    assert (CC in caplog.text) == (policy == "raise_if_all")


@pytest.mark.parametrize("code", [550, 450])
@pytest.mark.parametrize("policy", POLICIES)
def test_all_refused(smtpd: ScriptedServer, policy: str, code: int) -> None:
    smtpd.refuse("*", code, "no thanks")
    error = None if policy == "report" else mailbridge.RecipientsRefused
    report = _send(smtpd, policy, error)
    assert (report.refused if code == 550 else report.deferred) == (TO, CC)
    assert verbs(smtpd)[-2:] == ["RCPT", "RSET"]


def _send(
    smtpd: ScriptedServer, policy: str, error: type[mailbridge.RecipientsRefused] | None
) -> DeliveryReport:
    relay = transport(smtpd, "report")
    if error is None:
        return relay.send(BOTH, CONTENT, on_refused=policy)
    with pytest.raises(error) as caught:
        relay.send(BOTH, CONTENT, on_refused=policy)
    refused = caught.value
    assert type(refused) is error
    assert refused.accepted == refused.report.accepted
    assert CC in refused.recipients
    assert refused.transient == (refused.recipients[CC][0] == 450)
    assert refused.retryable == (refused.transient and not refused.accepted)
    assert refused.session_usable
    assert ("nobody got the mail" in str(refused)) == (not refused.accepted)
    assert "all recipients were refused" not in str(refused) or len(refused.report.refused) != 1
    return refused.report


def test_mixed_refusals_are_not_retryable(smtpd: ScriptedServer) -> None:
    smtpd.refuse(TO, 550)
    smtpd.refuse(CC, 450)
    with pytest.raises(mailbridge.RecipientsRefused) as caught:
        transport(smtpd).send(BOTH, CONTENT)
    assert (caught.value.report.refused, caught.value.report.deferred) == ((TO,), (CC,))
    assert not caught.value.retryable


@pytest.mark.parametrize("code", ["535 5.7.8 wrong", "454 4.7.0 later"])
def test_report_is_about_recipients_only(code: str) -> None:
    """on_refused="report": a login that fails is no refused recipient."""
    with ScriptedServer(users={"user": "secret"}) as smtpd:
        smtpd.reply("AUTH", code)
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(smtpd, "report", username="user", password="wrong").send(ENVELOPE, CONTENT)
    with ScriptedServer() as smtpd:
        smtpd.reply("GREETING", "554 no")
        with pytest.raises(mailbridge.GreetingRefused):
            transport(smtpd, "report").send(ENVELOPE, CONTENT)


# -- reports


def test_report_fields(smtpd: ScriptedServer) -> None:
    smtpd.reply("CONTENT", "250 2.0.0 Ok: queued as 4F2Q9z1")
    content = b"Message-ID: <1@example.org>\r\n\r\ntext\r\n"
    report = transport(smtpd).send(BOTH, content)
    assert report.queue_id == "4F2Q9z1"
    assert (report.reply.code, str(report.reply.status)) == (250, "2.0.0")
    assert report.relay == f"{smtpd.host}:{smtpd.port}"
    assert (report.attempts, report.sender) == (1, SENDER)
    assert list(report.recipients) == [TO, CC]
    assert (report.recipients[TO].state, report.recipients[TO].phase) == ("accepted", "content")
    assert report.error is None
    assert report.message_id == "<1@example.org>"
    report.raise_for_refused()


def test_report_is_plain_data(smtpd: ScriptedServer) -> None:
    """Reports and errors survive pickle, deepcopy and JSON."""
    smtpd.refuse(CC)
    report = transport(smtpd, "report").send(BOTH, CONTENT)
    for copied in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report)):
        assert copied == report
        with pytest.raises(mailbridge.SomeRecipientsRefused):
            copied.raise_for_refused()
    assert json.loads(json.dumps(report.to_dict()))["recipients"][CC]["code"] == 550
    smtpd.drop("CONTENT")
    with pytest.raises(mailbridge.DeliveryInDoubt) as caught:
        transport(smtpd).send(BOTH, CONTENT)
    for copied in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert (str(copied), copied.transcript) == (str(caught.value), caught.value.transcript)
        assert copied.report.in_doubt == (TO,)
    assert f"C: MAIL FROM:<{SENDER}> SIZE={len(CONTENT)}" in caught.value.transcript


# -- one connection


def test_sends_share_a_connection(smtpd: ScriptedServer) -> None:
    transport(smtpd).send(ENVELOPE, CONTENT)
    transport(smtpd).send(ENVELOPE, CONTENT)
    assert smtpd.connections == 1


def test_each_send_has_its_own_connection_if_asked(smtpd: ScriptedServer) -> None:
    relay = transport(smtpd, max_messages=1)
    relay.send(ENVELOPE, CONTENT)
    relay.send(ENVELOPE, CONTENT)
    assert smtpd.connections == 2


def test_open_and_close(smtpd: ScriptedServer) -> None:
    relay = transport(smtpd)
    assert relay.open() is True
    assert relay.open() is False
    for _ in range(3):
        relay.send(ENVELOPE, CONTENT)
    assert smtpd.connections == 1
    relay.close()
    relay.close()
    relay.send(ENVELOPE, CONTENT)
    with relay:
        relay.send(ENVELOPE, CONTENT)
    assert smtpd.connections == 1
    mailbridge.close_pools()
    relay.send(ENVELOPE, CONTENT)
    assert smtpd.connections == 2


def test_open_that_fails_leaves_nothing_open(smtpd: ScriptedServer) -> None:
    smtpd.reply("EHLO", "421 busy", times=1)
    relay = transport(smtpd)
    with pytest.raises(mailbridge.HeloRefused):
        relay.open()
    assert relay.open() is True
    relay.close()


# What is to be asked or told in the middle of a batch, or is not as given.
ASKING: dict[str, dict[str, Any]] = {
    "deadline": {"deadline": 60},
    "limit": {"max_recipients": 5},
    "esmtp": {"esmtp": Esmtp(mt_priority=1)},
    "hook": {"before_final_dot": lambda handover: None},
    "abort": {"on_refused": "abort"},
}


@pytest.mark.parametrize("asked", [{}, *ASKING.values()], ids=["nothing", *ASKING])
def test_a_batch_goes_the_short_way_where_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    taken = 0

    def consent(self: Lane, said: bytes) -> bool:
        nonlocal taken
        taken += 1
        return way(self, said)

    way = Lane.consent
    monkeypatch.setattr(Lane, "consent", consent)
    with ScriptedServer(extensions=["PIPELINING", "MT-PRIORITY"]) as smtpd:
        sender = Transport(transport(smtpd).relay, **asked)
        reports = list(sender.send_many((ENVELOPE, b"%d\r\n" % n) for n in range(10)))
        assert all(report.all_accepted for report in reports)
        contents = [message.content for message in smtpd.messages]
        assert contents == [b"%d\r\n" % n for n in range(10)]
    # The first is on its way before it is known what is granted, and nothing follows the last.
    assert taken == (0 if asked else 8)


def test_a_batch_changes_connections_in_time() -> None:
    with ScriptedServer(extensions=["PIPELINING"]) as smtpd:
        sender = transport(smtpd, max_messages=4)
        reports = list(sender.send_many((ENVELOPE, b"%d\r\n" % n) for n in range(10)))
        assert all(report.all_accepted for report in reports)
        assert [report.reused for report in reports] == [False, True, True, True] * 2 + [
            False,
            True,
        ]
        assert smtpd.connections == 3
        assert len(smtpd.messages) == 10


def test_send_many(smtpd: ScriptedServer) -> None:
    """Mails in, reports out, lazily and in order, over one connection."""
    smtpd.refuse("bad@*")
    smtpd.reply("CONTENT", "554 5.6.0 no", recipient="worse@example.com")
    names = [f"{name}@example.com" for name in ("one", "bad", "two", "worse", "three")]
    taken: list[str] = []

    def mails() -> Iterator[tuple[Envelope, bytes]]:
        for name in names:
            taken.append(name)
            yield Envelope(SENDER, [name]), CONTENT

    reports = transport(smtpd).send_many(mails())
    assert next(reports).accepted == ("one@example.com",)
    assert len(taken) <= 2
    rest = list(reports)
    assert [list(report.recipients) for report in rest] == [[name] for name in names[1:]]
    assert [len(report.accepted) for report in rest] == [0, 1, 0, 1]
    assert isinstance(rest[0].failure(), mailbridge.RecipientsRefused)
    assert isinstance(rest[2].failure(), mailbridge.MessageRefused)
    assert smtpd.connections == 1


SIGNED = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa9\r\n--b\r\n\r\nsignature\r\n--b--\r\n"
)


@pytest.mark.parametrize("bad", ["é", SIGNED], ids=["text outside ASCII", "signed 8-bit"])
def test_bad_message_does_not_stop_the_rest(smtpd: ScriptedServer, bad: str | bytes) -> None:
    """Content that cannot be sent: in its report; the others go on, over the same connection."""
    smtpd.without("8BITMIME")
    mails = [(ENVELOPE, CONTENT), (ENVELOPE, bad), (ENVELOPE, CONTENT)]
    reports = list(transport(smtpd).send_many(mails))
    assert [report.accepted for report in reports] == [(TO,), (), (TO,)]
    assert isinstance(reports[1].failure(), (ValueError, mailbridge.NotSupported))
    assert smtpd.connections == 1


def test_send_many_goes_on_after_a_lost_connection(smtpd: ScriptedServer) -> None:
    smtpd.drop("CONTENT", times=1)
    reports = list(transport(smtpd).send_many([(ENVELOPE, CONTENT)] * 3))
    assert [report.in_doubt for report in reports] == [(TO,), (), ()]
    assert isinstance(reports[0].failure(), mailbridge.DeliveryInDoubt)
    assert (reports[1].accepted, smtpd.connections) == ((TO,), 2)


def test_send_many_given_up(smtpd: ScriptedServer) -> None:
    """A loop that breaks off leaves no connection open, and the transport usable."""
    relay = transport(smtpd)
    reports = relay.send_many([(ENVELOPE, CONTENT)] * 3)
    next(reports)
    reports.close()
    assert relay.send(ENVELOPE, CONTENT).accepted


def test_send_many_nothing(smtpd: ScriptedServer) -> None:
    assert list(transport(smtpd).send_many([])) == []


# -- healing


def test_dropped_idle_connection_is_healed(smtpd: ScriptedServer) -> None:
    """A kept connection that the server has closed: one mail, over a new one, in two attempts."""
    smtpd.drop_after(1)
    with transport(smtpd) as relay:
        assert relay.send(ENVELOPE, CONTENT).attempts == 1
        report = relay.send(ENVELOPE, CONTENT)
        assert (report.accepted, report.attempts) == ((TO,), 2)
    assert len(smtpd.messages) == 2


@pytest.mark.parametrize("end", ["421 4.4.2 idle", ""])
def test_idle_421_and_close_are_healed(end: str) -> None:
    """421 or the end while idle: the next use connects again, and opens anew."""
    said = threading.Event()

    def first(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.read_content()
        peer.say("250 Ok", *([end] if end else []))
        if end:
            said.set()
            peer.wait_for_close()
        said.set()

    def second(peer: Peer) -> None:
        peer.until("QUIT")
        peer.say("221 bye")

    with RawServer(first, second) as server:
        with transport(server) as relay:
            relay.send(ENVELOPE, CONTENT)
            said.wait(5)
            if not end:
                server.wait_until_closed()
            assert relay.open() is True
            assert relay.send(ENVELOPE, CONTENT).accepted == (TO,)
        assert len(server.peers) == 2


def test_fresh_connection_is_not_tried_twice(smtpd: ScriptedServer) -> None:
    smtpd.drop("MAIL")
    with pytest.raises(mailbridge.Disconnected) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert (caught.value.report.attempts, smtpd.connections) == (1, 1)


def test_rset_refused_closes(smtpd: ScriptedServer) -> None:
    """RSET refused: the state is not known, so the connection is not kept."""
    smtpd.refuse("*", times=1)
    smtpd.reply("RSET", "500 what?", times=1)
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.RecipientsRefused) as caught:
            relay.send(ENVELOPE, CONTENT)
        assert not caught.value.session_usable
        assert relay.send(ENVELOPE, CONTENT).accepted
    assert smtpd.connections == 2


def test_a_batch_that_ends_after_close_keeps_nothing(smtpd: ScriptedServer) -> None:
    """A connection that was borrowed while the transport was open goes back to the pool."""
    sender = transport(smtpd, max_connections=1, pool_timeout=1)
    sender.open()
    batch = sender.send_many([(ENVELOPE, CONTENT)] * 3)
    next(batch)
    sender.close()
    assert all(report.accepted for report in batch)
    assert sender.connection is None
    # Nobody waits for the one place that there is.
    assert transport(smtpd, max_connections=1, pool_timeout=1).send(ENVELOPE, CONTENT).accepted
    assert smtpd.connections == 1
