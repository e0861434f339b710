"""Replies that smtplib misreads: garbage, mismatches, endless ones, late ones, and LMTP's many."""

from __future__ import annotations

import json

import pytest

import mailbridge
from mailbridge import LMTP, Envelope
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import (
    BOTH,
    CC,
    CONTENT,
    ENVELOPE,
    SENDER,
    TO,
    client,
    heard,
    transport,
    verbs,
)

BAD_REPLIES = [
    pytest.param(b"250-one\r\ngarbage\r\n250 two\r\n", id="garbage in the middle"),
    pytest.param(b"250-ok\r\n550 no\r\n", id="codes differ"),
    pytest.param(b"550-no\r\n250 ok\r\n", id="codes differ the other way"),
    *(
        pytest.param(code + b" text\r\n", id=code.decode())
        for code in (b"2_5", b"-25", b"+25", b"2500", b"25", b"999", b"099", b"150", b"260", b"2x0")
    ),
    pytest.param("２５０ ok\r\n".encode(), id="full-width digits"),
    pytest.param(b"250:ok\r\n", id="colon"),
    pytest.param(b" 250 ok\r\n", id="leading space"),
    pytest.param(b"\r\n", id="empty line"),
    pytest.param(b"\x00\xff\x00\r\n", id="binary"),
]


@pytest.mark.parametrize("reply", BAD_REPLIES)
def test_bad_reply_ends_the_session(smtpd: ScriptedServer, reply: bytes) -> None:
    """Garbage line mid multi-line, code mismatch, bad codes: fatal; never off by one."""
    smtpd.reply("NOOP", reply)
    smtp = client(smtpd)
    with pytest.raises(mailbridge.ProtocolViolation) as caught:
        smtp.noop()
    assert isinstance(caught.value, mailbridge.SMTPServerDisconnected)
    assert smtp.sock is None
    with pytest.raises(mailbridge.SMTPServerDisconnected):
        smtp.rset()
    assert verbs(smtpd) == ["NOOP"]


@pytest.mark.parametrize("reply", BAD_REPLIES[:6])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_bad_reply_before_content(smtpd: ScriptedServer, verb: str, reply: bytes) -> None:
    """A reply that cannot be trusted before the content: not attempted, temporary."""
    smtpd.reply(verb, reply)
    with pytest.raises(mailbridge.ProtocolViolation) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    assert caught.value.retryable
    assert smtpd.messages == ()
    assert "QUIT" not in verbs(smtpd)


@pytest.mark.parametrize("reply", [*BAD_REPLIES[:6], pytest.param(b"354 more?\r\n", id="354")])
def test_bad_reply_after_content(smtpd: ScriptedServer, reply: bytes) -> None:
    """A reply that cannot be trusted after the content: unknown, never sent again."""
    smtpd.reply("CONTENT", reply)
    with pytest.raises(mailbridge.DeliveryInDoubt) as caught:
        transport(smtpd).send(BOTH, CONTENT)
    assert caught.value.report.in_doubt == (TO, CC)
    assert not caught.value.retryable
    smtp = client(smtpd)
    with pytest.raises(mailbridge.DeliveryInDoubt):
        smtp.sendmail(SENDER, TO, CONTENT)
    assert smtp.sock is None
    assert verbs(smtpd).count("DATA") == 2


@pytest.mark.parametrize("verb", ["EHLO", "STARTTLS"])
def test_bad_reply_to_other_commands(verb: str, ca: mailbridge.testing.TestCA) -> None:
    """A reply that cannot be trusted ends the session at every step."""
    with ScriptedServer(tls_context=ca.server_context("127.0.0.1")) as smtpd:
        smtpd.reply(verb, b"2_0 ok\r\n")
        with pytest.raises(mailbridge.ProtocolViolation):
            transport(smtpd, tls="starttls", ca_file=ca.ca_file).send(ENVELOPE, CONTENT)
    assert verbs(smtpd)[-1] == verb


def test_bare_code_and_bare_lf_are_replies(smtpd: ScriptedServer) -> None:
    """RFC 5321 section 4.2: a code alone is a reply; LF alone is tolerated."""
    smtpd.reply("NOOP", b"250\r\n")
    smtpd.reply("RSET", b"250-a\n250 b\n")
    with client(smtpd) as smtp:
        assert smtp.noop() == (250, b"")
        assert smtp.rset() == (250, b"a\nb")


# -- endless


def _flood(piece: bytes, peer: Peer) -> None:
    peer.until("NOOP")
    while True:
        peer.send(piece * 1000)


@pytest.mark.parametrize(
    "piece", [b"250-more and more\r\n", b"250 ", b"\x00", b"250-\r\n"], ids=range(4)
)
def test_endless_reply_is_cut_short(piece: bytes) -> None:
    """Huge replies: bounded per line and in total; the connection is closed."""
    with RawServer(lambda peer: _flood(piece, peer)) as server:
        smtp = client(server)
        with pytest.raises(mailbridge.ProtocolViolation):
            smtp.noop()
        assert smtp.sock is None
        server.wait_until_closed()


def test_endless_greeting_is_cut_short() -> None:
    def dialogue(peer: Peer) -> None:
        while True:
            peer.send(b"220-welcome\r\n" * 1000)

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.MailError) as caught:
            transport(server).send(ENVELOPE, CONTENT)
        server.wait_until_closed()
    assert len(str(caught.value)) < 1000


def test_flood_of_whole_replies_is_not_collected() -> None:
    """Extra replies without end: the next command finds them, and the session is over."""
    with RawServer(lambda peer: _flood(b"250 Ok\r\n", peer)) as server:
        smtp = client(server)
        assert smtp.noop() == (250, b"Ok")
        with pytest.raises(mailbridge.ProtocolViolation):
            smtp.noop()
        server.wait_until_closed()


# -- text


def test_non_ascii_reply_text(smtpd: ScriptedServer) -> None:
    """Non-ASCII replies: bytes as smtplib's; text decoded with replacement and escaped."""
    smtpd.reply("RCPT", b"550 5.1.1 caf\xc3\xa9 \xff\x1b[31m\x00 no\r\n", recipient=TO)
    with client(smtpd) as smtp:
        refused = smtp.sendmail(SENDER, [TO, CC], CONTENT)
    assert refused == {TO: (550, b"5.1.1 caf\xc3\xa9 \xff\x1b[31m\x00 no")}
    report = transport(smtpd, "report").send(BOTH, CONTENT)
    result = report.recipients[TO]
    assert result.reply.text.startswith("5.1.1 café \\xff")
    assert str(result.reply.status) == "5.1.1"
    assert "café" in json.loads(json.dumps(report.to_dict()))["recipients"][TO]["text"]
    for shown in (str(result), str(result.reply), str(report.failure())):
        assert "\x1b" not in shown
        assert "\x00" not in shown


def test_error_text_is_one_line(smtpd: ScriptedServer) -> None:
    """What an error says is one line, whatever the server said."""
    smtpd.reply("CONTENT", "554-5.6.0 bad\n554 5.6.0 worse\x1b[0m")
    with pytest.raises(mailbridge.MessageRefused) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert "worse" in str(caught.value)
    assert str(caught.value).isprintable()


# -- LMTP


def test_lmtp_reads_a_reply_for_each_recipient(lmtpd: ScriptedServer) -> None:
    """LMTP, 2+ recipients: one reply for each after the dot, each paired, and in step."""
    lmtpd.reply("CONTENT", "550 5.2.2 full", recipient=CC)
    recipients = [TO, CC, "d@example.com"]
    with LMTP(lmtpd.host, lmtpd.port, local_hostname="me", timeout=5) as lmtp:
        assert lmtp.sendmail(SENDER, recipients, CONTENT) == {CC: (550, b"5.2.2 full")}
        assert lmtp.noop()[0] == 250
        assert lmtp.sendmail(SENDER, [TO], CONTENT) == {}
    assert heard(lmtpd)[0] == "LHLO me"


def test_lmtp_reads_a_reply_for_each_recipient_transport(lmtpd: ScriptedServer) -> None:
    """LMTP, 2+ recipients: refused at RCPT, refused and deferred after the dot, accepted."""
    lmtpd.refuse("never@example.com")
    lmtpd.reply("CONTENT", "550 5.2.2 full", recipient=CC)
    lmtpd.reply("CONTENT", "451 4.3.0 later", recipient="later@example.com")
    envelope = Envelope(SENDER, ["never@example.com", CC, "later@example.com", TO])
    with transport(lmtpd, "report", lmtp=True) as relay:
        for _ in range(2):
            report = relay.send(envelope, CONTENT)
            assert report.refused == ("never@example.com", CC)
            assert report.deferred == ("later@example.com",)
            assert report.accepted == (TO,)
    assert lmtpd.connections == 1
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        transport(lmtpd, lmtp=True).send(envelope, CONTENT)
    assert caught.value.accepted == (TO,)


def test_lmtp_all_refused_after_the_dot(lmtpd: ScriptedServer) -> None:
    lmtpd.reply("CONTENT", "550 5.2.2 full")
    with LMTP(lmtpd.host, lmtpd.port, local_hostname="me", timeout=5) as lmtp:
        with pytest.raises(mailbridge.SMTPRecipientsRefused) as caught:
            lmtp.sendmail(SENDER, [TO, CC], CONTENT)
        assert set(caught.value.recipients) == {TO, CC}
    with pytest.raises(mailbridge.RecipientsRefused) as caught:
        transport(lmtpd, lmtp=True).send(BOTH, CONTENT)
    assert caught.value.report.refused == (TO, CC)


@pytest.mark.parametrize("end", ["close", "421"])
def test_lmtp_connection_lost_between_replies(end: str) -> None:
    """LMTP, the connection drops part way through the replies: the rest are unknown."""

    def dialogue(peer: Peer) -> None:
        peer.until("DATA")
        peer.say("354 go on")
        peer.read_content()
        peer.say("250 2.1.5 Ok", *(["421 4.3.2 going down"] if end == "421" else []))

    recipients = (TO, CC, "d@example.com")
    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.DeliveryInDoubt) as caught:
            transport(server, lmtp=True).send(Envelope(SENDER, recipients), CONTENT)
    report = caught.value.report
    assert report.accepted == (TO,)
    assert "d@example.com" in report.in_doubt
    assert (CC in report.in_doubt) == (end == "close")
