"""Delivery status notifications that a real Postfix sends, as they were asked for."""

from __future__ import annotations

import email.policy
from email.message import EmailMessage, Message

import pytest

import mailbridge
from mailbridge import DSN, Envelope, Esmtp, Relay, Transport
from tests.interop.postfix import Postfix, start_postfix

CONTENT = b"From: me@example.org\r\nSubject: test\r\n\r\nthe text itself\r\n"


def transport(postfix: Postfix) -> Transport:
    return Transport(Relay.from_options(host=postfix.host, port=postfix.port, tls="none"))


def notification(postfix: Postfix, sender: str) -> tuple[list[Message], Message]:
    """The fields of the notification that ``sender`` got, and the mail in it as it was returned."""
    (content,) = postfix.stored(sender)
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    _, status, returned = message.iter_parts()
    fields, original = status.get_payload(), returned
    assert isinstance(fields, list)
    return fields, original


def test_success_as_it_was_asked_for(postfix: Postfix) -> None:
    sender, named, silent = "dsn@example.org", "a+tag@example.com", "b@example.com"
    asked = DSN(
        notify="success,failure",
        notify_each={silent: "never"},
        ret="hdrs",
        envid="order 17+4=21",
        orcpt=True,
    )
    report = transport(postfix).send(Envelope(sender, [named, silent], Esmtp(dsn=asked)), CONTENT)
    assert report.accepted == (named, silent)
    (of_message, of_recipient), returned = notification(postfix, sender)
    assert of_message["Original-Envelope-Id"] == "order 17+4=21"
    assert of_recipient["Original-Recipient"] == f"rfc822;{named}"
    assert of_recipient["Action"] in ("delivered", "relayed")
    assert "Subject: test" in returned.as_string()


@pytest.mark.parametrize("ret", ["full", "hdrs"])
def test_failure_with_the_whole_mail_or_its_header(postfix: Postfix, ret: str) -> None:
    sender = f"ret-{ret}@example.org"
    envelope = Envelope(sender, "undeliverable@example.com", Esmtp(dsn=DSN(ret=ret)))
    assert transport(postfix).send(envelope, CONTENT).accepted
    (_, of_recipient), returned = notification(postfix, sender)
    assert of_recipient["Action"] == "failed"
    assert ("the text itself" in returned.as_string()) == (ret == "full")


def test_failure_that_nobody_wants_to_hear_of(postfix: Postfix) -> None:
    asked = Esmtp(dsn=DSN(notify_each={"undeliverable@example.com": "never"}))
    recipients = ["undeliverable@example.com", "undeliverable@example.net"]
    report = transport(postfix).send(Envelope("quiet@example.org", recipients, asked), CONTENT)
    assert report.accepted == tuple(recipients)
    (_, *of_recipients), _ = notification(postfix, "quiet@example.org")
    assert [fields["Final-Recipient"] for fields in of_recipients] == [f"rfc822; {recipients[1]}"]


def test_an_original_recipient_outside_ascii(postfix: Postfix) -> None:
    """RFC 6533: the 7-bit form, under SMTPUTF8 too; Postfix takes it."""
    asked = Esmtp(dsn=DSN(notify="never", orcpt=True))
    report = transport(postfix).send(Envelope("me@example.org", "jürg@example.com", asked), CONTENT)
    assert report.accepted


def test_a_server_without(postfix_installed: None) -> None:
    discarded = {"smtpd_discard_ehlo_keywords": "silent-discard, dsn"}
    with start_postfix(settings=discarded) as plain:
        sender = transport(plain)
        asking = Envelope("me@example.org", "a@example.com", {"dsn": {"notify": "never"}})
        with pytest.raises(mailbridge.NotSupported, match="extension DSN"):
            sender.send(asking, CONTENT)
        assert sender.send(Envelope("me@example.org", "a@example.com"), CONTENT).accepted
        mailbridge.close_pools()
