"""Signals: before a message is sent, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from mailbridge import OptionError
from mailbridge.testing import ScriptedServer
from mailbridge_flask import (
    BadHeaderError,
    CancelSend,
    Mail,
    Message,
    RecipientsRefused,
    SomeRecipientsRefused,
    signals,
)
from tests.flask.conftest import MakeApp

NAMES = ("email-sending", "email-sent", "email-refused", "email-failed", "email-dispatched")
Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def heard() -> Iterator[Heard]:
    """What was told, in its order."""
    heard: Heard = []

    def listener(name: str) -> Callable[..., None]:
        return lambda sender, **about: heard.append((name, {"sender": sender, **about}))

    listeners = [(signals.signal(name), listener(name)) for name in NAMES]
    for signal, receiver in listeners:
        signal.connect(receiver)
    yield heard
    for signal, receiver in listeners:
        signal.disconnect(receiver)


@pytest.fixture
def before() -> Iterator[Callable[..., None]]:
    """Connects receivers of email_sending for a test."""
    connected = []

    def connect(receiver: Any) -> None:
        connected.append(receiver)
        signals.signal("email-sending").connect(receiver)

    yield connect
    for receiver in connected:
        signals.signal("email-sending").disconnect(receiver)


def told(heard: Heard) -> list[str]:
    return [name.removeprefix("email-") for name, _ in heard]


def test_a_message_that_all_got(app: Flask, mail: Mail, message: Message, heard: Heard) -> None:
    report = mail.send(message)
    assert told(heard) == ["sending", "sent", "dispatched"]
    for _, about in heard:
        assert about["sender"] is app
        assert about["message"] is message
    assert heard[0][1]["mailer"] == heard[1][1]["mailer"] == "default"
    assert heard[1][1]["report"] is report is message.delivery_report


def test_some_were_refused(
    mail: Mail, message: Message, smtpd: ScriptedServer, heard: Heard
) -> None:
    smtpd.refuse("b@example.com")
    with pytest.raises(SomeRecipientsRefused):
        mail.send(message)
    assert told(heard) == ["sending", "sent", "refused", "dispatched"]
    assert heard[2][1]["report"].refused == ("b@example.com",)


def test_nobody_got_it(
    make_app: MakeApp, message: Message, smtpd: ScriptedServer, heard: Heard
) -> None:
    smtpd.refuse("a@example.com")
    smtpd.defer("b@example.com")
    for policy in ("raise", "report"):
        with make_app(MAIL_ON_REFUSED=policy).app_context():
            if policy == "report":
                Mail().send(message)
            else:
                with pytest.raises(RecipientsRefused):
                    Mail().send(message)
        assert told(heard) == ["sending", "refused", "failed"]
        about = heard[2][1]
        assert isinstance(about["error"], RecipientsRefused)
        assert about["error"].message is message
        assert about["report"].deferred == ("b@example.com",)
        heard.clear()


def test_in_doubt_is_no_success(
    mail: Mail, message: Message, smtpd: ScriptedServer, heard: Heard
) -> None:
    smtpd.drop("CONTENT")
    with pytest.raises(OSError, match="in doubt"):
        mail.send(message)
    assert told(heard) == ["sending", "failed"]
    assert len(heard[1][1]["report"].in_doubt) == 2


def test_a_message_that_is_wrong(mail: Mail, smtpd: ScriptedServer, heard: Heard) -> None:
    message = Message("a\nb", ["a@example.com"])
    with pytest.raises(BadHeaderError) as caught:
        mail.send(message)
    assert told(heard) == ["sending", "failed"]
    about = heard[1][1]
    assert about["error"] is caught.value
    assert about["report"] is message.delivery_report is caught.value.report
    assert about["report"].not_attempted == ("a@example.com",)
    assert smtpd.connections == 0


def test_a_mailer_by_name(make_app: MakeApp, heard: Heard) -> None:
    with make_app(MAIL_MAILERS={"bulk": {}}).app_context():
        Mail().using("bulk").send_message("Hi", ["a@example.com"])
        assert [about.get("mailer") for _, about in heard] == ["bulk", "bulk", None]
        with pytest.raises(OptionError):
            Mail().using("other").send_message("Hi", ["a@example.com"])


def test_while_testing_nothing_is_sent_and_nothing_failed(
    app: Flask, mail: Mail, message: Message, heard: Heard
) -> None:
    app.config["TESTING"] = True
    mail.send(message)
    assert told(heard) == ["sending", "dispatched"]


def test_a_receiver_may_change_the_message(
    mail: Mail, message: Message, smtpd: ScriptedServer, before: Any
) -> None:
    def to_staging(sender: Flask, message: Message, **about: Any) -> None:
        message.extra_headers = {"X-To": ", ".join(map(str, message.recipients))}
        message.recipients = ["staging@example.org"]

    before(to_staging)
    assert mail.send(message).accepted == ("staging@example.org",)
    assert b"X-To: a@example.com, b@example.com\r\n" in smtpd.messages[0].content


def test_a_receiver_may_keep_it_back(
    mail: Mail, message: Message, smtpd: ScriptedServer, before: Any, heard: Heard
) -> None:
    def cancel(sender: Flask, **about: Any) -> None:
        raise CancelSend

    before(cancel)
    report = mail.send(message)
    assert report is message.delivery_report
    assert report.not_attempted == ("a@example.com", "b@example.com")
    assert "email_sending" in (report["a@example.com"].reason or "")
    assert report.failure() is None
    with mail.connect() as connection:
        connection.send(message)
    assert "sent" not in told(heard)
    assert "failed" not in told(heard)
    assert "dispatched" not in told(heard)
    assert not smtpd.messages


def test_a_receiver_that_fails_before(
    mail: Mail, message: Message, smtpd: ScriptedServer, before: Any, heard: Heard
) -> None:
    def fail(sender: Flask, **about: Any) -> None:
        raise RuntimeError("a bug")

    before(fail)
    with pytest.raises(RuntimeError, match="a bug"):
        mail.send(message)
    assert not smtpd.messages
    assert told(heard)[-1] == "failed"
    assert isinstance(heard[-1][1]["error"], RuntimeError)


def test_a_receiver_that_fails_afterwards_breaks_nothing(
    mail: Mail, message: Message, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(sender: Flask, **about: Any) -> None: ...

    def fail(sender: Flask, **about: Any) -> None:
        raise RuntimeError("a bug")

    sent = signals.signal("email-sent")
    with sent.connected_to(fail), sent.connected_to(never):
        assert len(mail.send(message).accepted) == 2
        assert "sent" in told(heard)
        with sent.muted():
            mail.send(message)
    assert [record.message for record in caplog.records] == ["a receiver of email-sent failed"] * 2
