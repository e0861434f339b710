"""What became of each message, and who is told: reports, policies, errors, batches."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import email.message
import json
import logging
import pickle
import smtplib
from collections.abc import Callable
from typing import Any

import pytest
from django.core.mail import EmailMessage

import mailbridge
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, exceptions

Make = Callable[..., EmailBackend]


def message(*to: str, **kwargs: Any) -> EmailMessage:
    kwargs.setdefault("from_email", "me@example.org")
    return EmailMessage("Subject", "Body", to=list(to), **kwargs)


def report_of(mail: EmailMessage) -> mailbridge.DeliveryReport:
    report = mail.delivery_report
    assert isinstance(report, mailbridge.DeliveryReport)
    return report


# One message.


def test_some_refused(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@*")
    smtpd.defer("full@*")
    mail = message("a@example.com", "gone@example.com", "full@example.com")
    with pytest.raises(exceptions.SomeRecipientsRefused) as caught:
        backend().send_messages([mail])
    error = caught.value
    assert isinstance(error, mailbridge.SomeRecipientsRefused)
    assert isinstance(error, exceptions.RecipientsRefused)
    assert isinstance(error, smtplib.SMTPRecipientsRefused)
    assert error.message is mail
    assert error.report is report_of(mail)
    assert error.accepted == ("a@example.com",)
    assert {a: code for a, (code, _) in error.recipients.items()} == {
        "gone@example.com": 550,
        "full@example.com": 451,
    }
    report = report_of(mail)
    assert (report.refused, report.deferred) == (("gone@example.com",), ("full@example.com",))
    assert smtpd.messages[0].recipients == ("a@example.com",)
    assert "S: 550 5.1.1 No such user" in error.transcript


@pytest.mark.parametrize("code", [550, 450])
def test_all_refused(code: int, backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.refuse("*", code, "no")
    mail = message("a@example.com", "b@example.com")
    with pytest.raises(exceptions.RecipientsRefused) as caught:
        backend().send_messages([mail])
    assert not isinstance(caught.value, exceptions.SomeRecipientsRefused)
    assert caught.value.recipients["a@example.com"] == (code, b"no")
    assert caught.value.transient is (code == 450)
    assert report_of(mail).accepted == ()
    assert smtpd.messages == ()


def test_sender_refused(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.reply("MAIL", "553 5.7.1 Not yours")
    mail = message("a@example.com")
    with pytest.raises(exceptions.SenderRefused) as caught:
        backend().send_messages([mail])
    assert isinstance(caught.value, smtplib.SMTPSenderRefused)
    assert (caught.value.smtp_code, caught.value.sender) == (553, "me@example.org")
    assert caught.value.message is mail
    assert report_of(mail).refused == ("a@example.com",)
    assert report_of(mail).error is caught.value


@pytest.mark.parametrize("point", ["DATA", "CONTENT"])
@pytest.mark.parametrize("code", [554, 451])
def test_message_refused(point: str, code: int, backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.without("CHUNKING")
    smtpd.reply(point, f"{code} spam")
    mail = message("a@example.com")
    with pytest.raises(exceptions.MessageRefused) as caught:
        backend().send_messages([mail])
    assert isinstance(caught.value, smtplib.SMTPDataError)
    assert (caught.value.smtp_code, caught.value.smtp_error) == (code, b"spam")
    report = report_of(mail)
    assert (report.refused if code == 554 else report.deferred) == ("a@example.com",)


def test_in_doubt(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.drop("CONTENT")
    mail = message("a@example.com")
    with pytest.raises(exceptions.DeliveryInDoubt) as caught:
        backend().send_messages([mail])
    assert isinstance(caught.value, smtplib.SMTPServerDisconnected)
    assert not caught.value.retryable
    assert report_of(mail).in_doubt == ("a@example.com",)
    # Not sent a second time by anybody.
    assert len(smtpd.messages) == 1


def test_lost_before_the_content(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.without("CHUNKING")
    smtpd.drop("DATA")
    mail = message("a@example.com")
    with pytest.raises(exceptions.Disconnected) as caught:
        backend().send_messages([mail])
    assert not isinstance(caught.value, exceptions.DeliveryInDoubt)
    assert caught.value.retryable
    assert report_of(mail).not_attempted == ("a@example.com",)


def test_no_server(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.stop()
    mail = message("a@example.com")
    with pytest.raises(exceptions.ConnectRefused) as caught:
        backend().send_messages([mail])
    assert isinstance(caught.value, ConnectionRefusedError)
    assert caught.value.message is mail
    assert caught.value.report is report_of(mail)
    assert report_of(mail).not_attempted == ("a@example.com",)
    assert report_of(mail).relay == f"127.0.0.1:{smtpd.port}"
    with pytest.raises(ConnectionRefusedError) as caught_again:
        backend().send_messages([mail, message("b@example.com")])
    assert caught_again.value.message is None


# Policies.


def test_raise_if_all(
    backend: Make, smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    smtpd.refuse("gone@*")
    sender = backend(on_refused="raise_if_all")
    mail = message("a@example.com", "gone@example.com")
    with caplog.at_level(logging.WARNING, "mailbridge"):
        assert sender.send_messages([mail]) == 1
    assert "gone@example.com" in caplog.text
    assert report_of(mail).refused == ("gone@example.com",)
    with pytest.raises(exceptions.RecipientsRefused):
        sender.send_messages([message("gone@example.com")])


def test_abort(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@*")
    mail = message("a@example.com", "gone@example.com")
    with pytest.raises(exceptions.RecipientsRefused) as caught:
        backend(on_refused="abort").send_messages([mail])
    assert caught.value.accepted == ()
    assert report_of(mail).not_attempted == ("a@example.com",)
    assert smtpd.messages == ()


def test_report_only(
    backend: Make, smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    smtpd.refuse("gone@*")
    some, none = message("a@example.com", "gone@example.com"), message("gone@example.com")
    assert backend(on_refused="report").send_messages([some, none]) == 1
    assert report_of(some).refused == report_of(none).refused == ("gone@example.com",)
    assert caplog.text == ""
    smtpd.drop("CONTENT")
    with pytest.raises(exceptions.DeliveryInDoubt):
        backend(on_refused="report").send_messages([message("a@example.com")])


# Batches.


def test_every_message_is_tried(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@*")
    mails = [message("a@example.com"), message("gone@example.com"), message("b@example.com")]
    with pytest.raises(exceptions.RecipientsRefused) as caught:
        backend().send_messages(mails)
    assert caught.value.message is mails[1]
    assert [m.recipients for m in smtpd.messages] == [("a@example.com",), ("b@example.com",)]
    assert [report_of(m).accepted for m in mails] == [("a@example.com",), (), ("b@example.com",)]
    assert smtpd.connections == 1


def test_several_errors_are_one_batch_error(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@*")
    mails = [
        message("gone@example.com"),
        message("a@example.com"),
        message(),
        message("not an address"),
    ]
    with pytest.raises(exceptions.BatchError) as caught:
        backend().send_messages(iter(mails))
    error = caught.value
    assert isinstance(error, mailbridge.BatchError)
    refused, invalid = error.errors
    assert isinstance(refused, exceptions.RecipientsRefused)
    assert refused.message is mails[0]
    assert isinstance(invalid, ValueError)
    assert error.reports == tuple(report_of(m) for m in mails)
    assert report_of(mails[3]).not_attempted == ("not an address",)
    assert "2 of 4 messages failed" in str(error)
    assert not error.retryable
    assert len(smtpd.messages) == 1
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "bad",
    [
        {"subject": "two\nlines"},
        {"headers": {"X-Kind": "a\r\nBcc: b@example.com"}},
        {"from_email": "a@example.com\nb"},
        {"bcc": ["a@b@example.com"]},
    ],
)
@pytest.mark.parametrize("fail_silently", [False, True])
def test_an_invalid_message_is_a_value_error_after_the_rest(
    bad: dict[str, Any], fail_silently: bool, backend: Make, smtpd: ScriptedServer
) -> None:
    kwargs = {"subject": "Subject", "to": ["b@example.com"], **bad}
    mails = [message("a@example.com"), EmailMessage(**kwargs), message("c@example.com")]
    with pytest.raises(ValueError, match=r"newline|line breaks|linefeed|[Ii]nvalid address"):
        backend(fail_silently=fail_silently).send_messages(mails)
    assert [m.recipients for m in smtpd.messages] == [("a@example.com",), ("c@example.com",)]
    assert report_of(mails[1]).not_attempted[0] == "b@example.com"


@pytest.mark.parametrize(
    "bad",
    [
        {"subject": "a\0b"},
        {"subject": "a\x0bBcc: evil@example.com"},
        {"subject": "a\r"},
        {"headers": {"X-A": "a\0b"}},
        {"headers": {"X-A\nBcc": "evil@example.com"}},
        {"headers": {"X-A: x\r\nBcc": "evil@example.com"}},
        {"headers": {"X A": "x"}},
        {"reply_to": ["a\0b <c@example.com>"]},
        {"attachments": [("a\r\nX-B: b\r\n", b"x", "image/png")]},
        {"attachments": [("a\0b", b"x", "image/png")]},
        {"attachments": [("a.png", b"x", "image/png\r\nX-B: b")]},
    ],
    ids=ascii,
)
def test_no_field_becomes_two(bad: dict[str, Any], backend: Make, smtpd: ScriptedServer) -> None:
    """Names and values, in the header and in parts, whatever Django and Python make of them."""
    mail = EmailMessage(**{"subject": "Subject", "to": ["b@example.com"], **bad})
    with pytest.raises(ValueError, match=r"(?i)newline|line ?break|linefeed|NUL|name|embedded"):
        backend().send_messages([mail])
    assert smtpd.messages == ()
    assert report_of(mail).not_attempted == ("b@example.com",)


@pytest.mark.parametrize("name", ["Bcc", "bcc", "Resent-Bcc"])
def test_bcc_in_extra_headers_is_not_sent(name: str, backend: Make, smtpd: ScriptedServer) -> None:
    """Django 6.1 refuses Bcc itself; nobody's version shows it to the others."""
    mail = message("b@example.com", headers={name: "secret@example.com"})
    with contextlib.suppress(ValueError):
        backend().send_messages([mail])
    assert all(b"secret@" not in received.content for received in smtpd.messages)
    if name == "Resent-Bcc":
        assert len(smtpd.messages) == 1


class Signed(EmailMessage):
    """A message whose bytes are more than its fields, as a signature's are."""

    def message(self, **kwargs: Any) -> Any:
        class Signing(email.message.Message):
            def as_bytes(self, *args: Any, **kwargs: Any) -> bytes:
                return b"X-Signature: x\r\n" + super().as_bytes(*args, **kwargs)

        made = Signing()
        made["From"], made["To"] = "me@example.org", "b@example.com"
        made.set_payload("text")
        return made


def test_a_message_that_writes_itself_may_add_fields(backend: Make, smtpd: ScriptedServer) -> None:
    assert backend().send_messages([Signed("s", "b", "me@example.org", ["b@example.com"])]) == 1
    assert smtpd.messages[0].content.startswith(b"X-Signature: x\r\n")


@pytest.mark.parametrize("kind", ["pipelined", "one by one", "in an event loop"])
def test_max_recipients(kind: str, backend: Make, smtpd: ScriptedServer) -> None:
    """A message to too many goes to nobody, Cc and Bcc among them; the others are sent."""

    class OneByOne(EmailBackend):
        def _send(self, email_message: EmailMessage) -> bool:
            return super()._send(email_message)

    to = ["b@example.com"]
    greedy = EmailMessage("Subject", "", None, to, cc=["c@example.com"], bcc=["d@example.com"])
    mails = [message("a@example.com"), greedy, message("e@example.com")]
    sender = backend(OneByOne if kind == "one by one" else EmailBackend, max_recipients="2")

    def send(mails: list[EmailMessage]) -> int:
        if kind == "in an event loop":
            return asyncio.run(sender.asend_messages(mails))
        return sender.send_messages(mails)

    with pytest.raises(ValueError, match="has 3 recipients, and max_recipients allows 2"):
        send(mails)
    assert [m.recipients for m in smtpd.messages] == [("a@example.com",), ("e@example.com",)]
    assert report_of(greedy).not_attempted == ("b@example.com", "c@example.com", "d@example.com")


def test_a_batch_gives_up_when_the_server_is_gone(backend: Make, smtpd: ScriptedServer) -> None:
    class Closing(EmailBackend):
        def _send(self, email_message: EmailMessage) -> bool:
            sent = super()._send(email_message)
            if email_message.to == ["a@example.com"]:
                smtpd.stop()
            return sent

    mails = [message(f"{name}@example.com") for name in "abcd"]
    with pytest.raises(exceptions.BatchError) as caught:
        backend(Closing).send_messages(mails)
    assert [error.message for error in caught.value.errors] == mails[1:]
    assert all(isinstance(error, exceptions.ConnectRefused) for error in caught.value.errors)
    assert [len(report_of(mail).not_attempted) for mail in mails] == [0, 1, 1, 1]
    assert [error.report for error in caught.value.errors] == [report_of(m) for m in mails[1:]]


def test_a_new_connection_within_a_batch(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.drop_after(2)
    assert backend().send_messages([message(f"{n}@example.com") for n in range(5)]) == 5
    assert smtpd.connections == 3


def test_an_old_report_does_not_stay(backend: Make) -> None:
    mail = message("a@example.com")
    backend().send_messages([mail])
    mail.to = []
    assert backend().send_messages([mail]) == 0
    assert report_of(mail).recipients == {}


# Silence.


def test_fail_silently(
    backend: Make, smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    smtpd.refuse("gone@*")
    mails = [
        message("a@example.com"),
        message("gone@example.com"),
        message("b@example.com", "gone@example.com"),
    ]
    with caplog.at_level(logging.WARNING, "mailbridge"):
        assert backend(fail_silently=True).send_messages(mails) == 2
    assert len(caplog.records) == 2
    assert "gone@example.com" in caplog.text
    assert report_of(mails[1]).refused == ("gone@example.com",)


def test_fail_silently_without_a_server(
    backend: Make, smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    smtpd.stop()
    silent = backend(fail_silently=True)
    mails = [message("a@example.com"), message("b@example.com")]
    assert silent.open() is None
    assert silent.send_messages(mails) == 0
    assert silent.connection is None
    for report in map(report_of, mails):
        assert len(report.not_attempted) == 1
        assert isinstance(report.error, mailbridge.ConnectRefused)
        assert all("nothing listens" in str(result) for result in report)
    assert "nothing listens" in caplog.text
    with silent as entered:
        assert entered is silent


def test_fail_silently_when_it_takes_too_long(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.silent("MAIL")
    silent = backend(fail_silently=True, timeout=0.2)
    assert silent.send_messages([message("a@example.com")]) == 0


# Plain data.


def test_message_and_error_survive_pickle_and_deepcopy(
    backend: Make, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("gone@*")
    mail = message("a@example.com", "gone@example.com")
    with pytest.raises(exceptions.SomeRecipientsRefused) as caught:
        backend().send_messages([mail])
    for copied in (pickle.loads(pickle.dumps(mail)), copy.deepcopy(mail)):
        assert copied.delivery_report == report_of(mail)
        assert copied.to == mail.to
    for error in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert type(error) is exceptions.SomeRecipientsRefused
        assert str(error) == str(caught.value)
        assert error.recipients == caught.value.recipients
        assert error.transcript == caught.value.transcript
        assert error.message.to == mail.to
        assert error.report == report_of(mail)
    assert json.loads(json.dumps(report_of(mail).to_dict()))["recipients"]["gone@example.com"]


def test_an_error_of_a_message_that_holds_its_backend(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.reply("MAIL", "553 no")
    mail = message("a@example.com")
    with pytest.raises(exceptions.SenderRefused) as caught:
        backend().send_messages([mail])
    # What EmailMessage.send() does up to Django 6.0; a backend holds a lock and a password.
    name = "_connection" if hasattr(mail, "_connection") else "connection"
    setattr(mail, name, backend(password="s3cret", username="u"))
    data = pickle.dumps(caught.value)
    assert b"s3cret" not in data
    error = pickle.loads(data)
    assert error.smtp_code == 553
    assert error.message.to == ["a@example.com"]
    assert getattr(mail, name) is not None
