"""Many recipients, some later, some twice; and the words in which the caller named them."""

from __future__ import annotations

from typing import Any

import pytest

import mailbridge
from mailbridge import Envelope, OptionError, Transport
from mailbridge.testing import ScriptedServer
from tests.sync.support import BOTH, CC, CONTENT, SENDER, TO, client, transport, verbs

FIVE = tuple(f"{number}@example.com" for number in range(5))


def test_greylisting(smtpd: ScriptedServer) -> None:
    """4yz for a recipient: that one later, the others go on; the second try gets through."""
    smtpd.greylist()
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.RecipientsRefused) as caught:
            relay.send(BOTH, CONTENT)
        assert caught.value.report.deferred == (TO, CC)
        assert (caught.value.retryable, caught.value.transient) == (True, True)
        assert relay.send(BOTH, CONTENT).accepted == (TO, CC)


def test_too_many_recipients_go_into_further_transactions(smtpd: ScriptedServer) -> None:
    """452 on RCPT after some were accepted: the rest in a new transaction, in the same call."""
    smtpd.max_recipients = 2
    report = transport(smtpd).send(Envelope(SENDER, FIVE), CONTENT)
    assert report.accepted == FIVE
    assert [message.recipients for message in smtpd.messages] == [FIVE[:2], FIVE[2:4], FIVE[4:]]
    assert smtpd.connections == 1


def test_552_too_many_recipients_is_a_452(smtpd: ScriptedServer) -> None:
    """RFC 5321 section 4.5.3.1.10: 552 on RCPT is treated as 452."""
    for recipient in FIVE[2:]:
        smtpd.refuse(recipient, 552, "5.5.3 Too many recipients", times=1)
    report = transport(smtpd).send(Envelope(SENDER, FIVE), CONTENT)
    assert report.accepted == FIVE
    assert [message.recipients for message in smtpd.messages] == [FIVE[:2], FIVE[2:]]


TOO_MANY = ["4.2.2 Mailbox full", "4.5.3 Too many recipients", "Too many recipients"]


@pytest.mark.parametrize("text", TOO_MANY)
def test_452_to_everybody_is_a_deferral(smtpd: ScriptedServer, text: str) -> None:
    """452 before anybody was accepted is no "too many": deferred, and asked once."""
    smtpd.defer("*", 452, text)
    with pytest.raises(mailbridge.RecipientsRefused) as caught:
        transport(smtpd).send(Envelope(SENDER, FIVE), CONTENT)
    assert caught.value.report.deferred == FIVE
    assert verbs(smtpd).count("MAIL") == 1


@pytest.mark.parametrize("text", TOO_MANY)
def test_452_of_one_recipient_is_not_endless(smtpd: ScriptedServer, text: str) -> None:
    """A recipient that always gets 452: deferred in the end, and the others got one copy."""
    smtpd.defer(TO, 452, text)
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        transport(smtpd).send(Envelope(SENDER, [CC, TO, *FIVE]), CONTENT)
    assert caught.value.report.deferred == (TO,)
    received = [rcpt for message in smtpd.messages for rcpt in message.recipients]
    assert sorted(received) == sorted([CC, *FIVE])
    assert verbs(smtpd).count("MAIL") <= 3


def test_every_refused_text_is_named(smtpd: ScriptedServer) -> None:
    """sendmail() names recipients as the caller did, each of them: who is absent got the mail."""
    smtpd.refuse(TO)
    named = [f"Name <{TO}>", TO, f" {TO} ", CC]
    with client(smtpd) as smtp:
        refused = smtp.sendmail(SENDER, named, CONTENT)
        assert set(refused) == set(named[:3])
        with pytest.raises(mailbridge.SMTPRecipientsRefused) as caught:
            smtp.sendmail(SENDER, named[:3], CONTENT)
    assert set(caught.value.recipients) == set(named[:3])
    assert verbs(smtpd).count("RCPT") == 3


def test_each_recipient_is_asked_once(smtpd: ScriptedServer) -> None:
    report = transport(smtpd).send(Envelope(SENDER, [TO, f"Name <{TO}>", CC, TO]), CONTENT)
    assert report.accepted == (TO, CC)
    assert smtpd.messages[0].recipients == (TO, CC)


def test_parameters_reach_mail_and_rcpt(smtpd: ScriptedServer) -> None:
    """DSN parameters where DSN is offered; left out where it is not."""
    options = {"mail_options": ["RET=HDRS", "ENVID=abc"], "rcpt_options": ["NOTIFY=NEVER"]}
    transport(smtpd).send(BOTH, CONTENT, **options)
    smtpd.without("DSN")
    mailbridge.close_pools()  # what was offered is known for the connection's life
    transport(smtpd).send(BOTH, CONTENT, **options)
    with_dsn, without = smtpd.messages
    assert {"RET=HDRS", "ENVID=abc"} < set(with_dsn.mail_parameters)
    assert with_dsn.rcpt_parameters == {TO: ("NOTIFY=NEVER",), CC: ("NOTIFY=NEVER",)}
    assert without.mail_parameters == (f"SIZE={len(CONTENT)}",)
    assert without.rcpt_parameters == {TO: (), CC: ()}


def test_ignored_extensions_are_not_used(smtpd: ScriptedServer) -> None:
    """ignore_extensions: what a server offers and does not cope with."""
    relay = transport(smtpd, ignore_extensions=["size", "dsn"])
    relay.send(BOTH, CONTENT, mail_options=["RET=HDRS"])
    assert smtpd.messages[0].mail_parameters == ()


@pytest.mark.parametrize("windowed", [{}, {"bdat_window": 2}], ids=["", "in a window"])
def test_max_recipients(smtpd: ScriptedServer, windowed: dict[str, Any]) -> None:
    """One mail to more than the limit, each counted once: nobody gets it, and the next goes out."""
    told: list[Any] = []
    options = {"on_report": told.append, "name": "invitations"}
    relay = Transport(transport(smtpd, **windowed).relay, max_recipients=3, **options)
    limit = "the mail has 4 recipients, and max_recipients allows 3; it was sent to nobody"
    too_many, enough = Envelope(SENDER, FIVE[:4]), Envelope(SENDER, [*FIVE[:3], FIVE[0]])
    for send in (relay.send, relay.attempt):
        with pytest.raises(mailbridge.InvalidInput, match=limit):
            send(too_many, CONTENT)
    assert smtpd.connections == 0
    one, refused, last = relay.send_many([(enough, CONTENT), (too_many, CONTENT), (BOTH, CONTENT)])
    assert (one.accepted, last.accepted) == (FIVE[:3], (TO, CC))
    assert refused.not_attempted == FIVE[:4]
    assert told == [one, refused, last]
    assert {report.mailer for report in told} == {"invitations"}
    assert limit in str(refused.error)
    assert len(smtpd.messages) == 2


def test_max_recipients_of_both_sides(smtpd: ScriptedServer) -> None:
    """What a server takes at a time is another limit, and no reason to refuse the mail."""
    smtpd.max_recipients = 2
    relay = Transport(transport(smtpd).relay, max_recipients=5)
    assert relay.send(Envelope(SENDER, FIVE), CONTENT).accepted == FIVE


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "many", True])
def test_what_is_no_limit(wrong: object) -> None:
    with pytest.raises(OptionError, match=r"^max_recipients .* is no whole number above 0"):
        Transport("smtp://mx.example.org", max_recipients=wrong)
