"""What an error tells to do next, where the server's own words are not enough."""

from __future__ import annotations

import pytest

import mailbridge
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import BOTH, CONTENT, ENVELOPE, SENDER, TO, client, transport


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", "wants TLS first: set tls='starttls'"),
        ("530 5.7.0 Authentication required", "wants a login first: set username and password"),
    ],
)
def test_530_to_the_sender(smtpd: ScriptedServer, reply: str, advice: str) -> None:
    smtpd.reply("MAIL", reply)
    with pytest.raises(mailbridge.SenderRefused) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert advice in str(caught.value)


def test_relaying_is_denied(smtpd: ScriptedServer) -> None:
    """The addresses are right: to drop them would be wrong."""
    smtpd.refuse("*", 554, "5.7.1 Relay access denied")
    with pytest.raises(mailbridge.RecipientsRefused, match="set username and password") as caught:
        transport(smtpd).send(BOTH, CONTENT)
    assert "drop" not in str(caught.value)


def test_recipients_of_sendmail(smtpd: ScriptedServer) -> None:
    smtpd.refuse("*", 550, "5.1.1 No such user")
    with client(smtpd) as smtp, pytest.raises(mailbridge.RecipientsRefused) as caught:
        smtp.sendmail(SENDER, [TO], CONTENT)
    assert caught.value.advice == "Correct or drop these addresses"


def test_starttls_is_not_offered(smtpd: ScriptedServer) -> None:
    with client(smtpd) as smtp, pytest.raises(mailbridge.NotSupported, match="587") as caught:
        smtp.starttls()
    assert caught.value.phase == "starttls"


def test_a_server_that_drops_what_is_pipelined() -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("MAIL", ehlo=("250-raw.example", "250 PIPELINING"))
        peer.say("250 2.1.0 Ok")
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.ReplyTimeout, match="ignore_extensions='PIPELINING'"):
            transport(server, timeout=0.2).send(ENVELOPE, CONTENT)


def test_a_server_that_cannot_do_bdat() -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("BDAT", ehlo=("250-raw.example", "250-PIPELINING", "250 CHUNKING"))
        peer.say("502 5.5.1 What?")

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.MessageRefused, match="ignore_extensions='CHUNKING'"):
            transport(server).send(ENVELOPE, CONTENT)


@pytest.mark.parametrize(
    ("verb", "reply", "advice"),
    [
        ("GREETING", "554 No", "takes no mail from here: check host and port"),
        ("GREETING", "450 Busy", "Try again later"),
        ("MAIL", "550 5.7.1 Not yours", "Use a sender that belongs to your account"),
        ("MAIL", "451 4.3.0 Busy", "Try again later"),
        ("GREETING", "250 Hm", "Is this a mail server?"),
        ("RCPT", "354 Hm", "Is this a mail server?"),
        ("DATA", "250 Hm", "Is this a mail server?"),
        ("MAIL", "hello", "Is this a mail server? The transcript shows"),
        ("CONTENT", "554 5.7.1 Spam", "Change the message: the reply says why"),
        ("CONTENT", "451 4.7.1 Later", "Try again later"),
    ],
)
def test_a_reply(smtpd: ScriptedServer, verb: str, reply: str, advice: str) -> None:
    smtpd.reply(verb, reply.encode() + b"\r\n")
    with pytest.raises(mailbridge.MailError) as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert advice in str(caught.value)
    assert advice in (caught.value.advice or "")


def test_a_connection_that_is_lost(smtpd: ScriptedServer) -> None:
    smtpd.drop("RCPT", times=1)
    smtpd.silent("DATA")
    with pytest.raises(mailbridge.Disconnected, match=r"\. Try again later$"):
        transport(smtpd).send(ENVELOPE, CONTENT)
    with pytest.raises(mailbridge.ReplyTimeout, match="or raise reply_timeout"):
        transport(smtpd, timeout=0.2, ignore_extensions="PIPELINING").send(ENVELOPE, CONTENT)


def test_who_has_it_already_is_not_to_get_it_again() -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("RCPT")
        peer.say("250 2.1.5 Ok")
        peer.until("RCPT")
        peer.say("452 4.5.3 Too many recipients")
        peer.until("RCPT")

    with RawServer(dialogue) as server:
        with pytest.raises(
            mailbridge.MailError, match=r"only who are not in report\.acc"
        ) as caught:
            transport(server).send(BOTH, CONTENT)
    assert len(caught.value.report.accepted) == 1
    assert not caught.value.retryable
