"""send_many: messages as they come, a report for each."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

import mailbridge
from mailbridge.testing import ScriptedServer
from mailbridge_flask import (
    BadHeaderError,
    CancelSend,
    Mail,
    Message,
    MissingAddress,
    email_failed,
    email_sending,
)
from tests.flask.conftest import MakeApp


def messages(*recipients: str) -> Iterator[Message]:
    for number, recipient in enumerate(recipients):
        yield Message(f"Number {number}", [recipient], "Words")


def test_a_report_for_each_in_their_order(mail: Mail, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.net")
    batch = list(messages("a@example.com", "gone@example.net", "b@example.com"))
    first, second, third = mail.send_many(batch)
    assert first.accepted == ("a@example.com",)
    assert second.refused == ("gone@example.net",)
    assert third.accepted == ("b@example.com",)
    assert [message.delivery_report for message in batch] == [first, second, third]
    assert isinstance(second.failure(), mailbridge.RecipientsRefused)
    assert smtpd.connections == 1


def test_they_go_pipelined(
    make_app: MakeApp, smtpd: ScriptedServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with make_app(MAIL_DEBUG=True).app_context():
        reports = Mail().send_many(messages(*["a@example.com"] * 5))
        assert sum(len(report.accepted) for report in reports) == 5
    # The next mail's group is sent behind the content of this one, before its reply is there.
    said = capfd.readouterr().err.splitlines()
    second = [n for n, line in enumerate(said) if line.startswith("C: MAIL FROM")][1]
    first_reply = next(n for n, line in enumerate(said) if "queued as" in line)
    assert second < first_reply


def test_what_is_wrong_is_in_its_report(mail: Mail, smtpd: ScriptedServer) -> None:
    batch = [
        Message("a\nb", ["a@example.com"], "x"),
        Message("Good", ["a@example.com"], "x"),
        Message("Nobody", [], "x"),
        Message("Also good", ["b@example.com"], "x"),
        Message("é\n", ["a@example.com"], "x"),
    ]
    reports = list(mail.send_many(batch))
    kinds = [type(report.error) for report in reports]
    assert kinds == [BadHeaderError, type(None), MissingAddress, type(None), BadHeaderError]
    assert reports[0].not_attempted == ("a@example.com",)
    assert len(smtpd.messages) == 2


def test_parameters_of_their_own(mail: Mail, smtpd: ScriptedServer) -> None:
    batch = list(messages("a@example.com", "b@example.com", "c@example.com", "d@example.com"))
    batch[1].mail_options = ["RET=HDRS"]
    batch[2].mail_options = ["NO-SUCH\nTHING"]
    batch[3].rcpt_options = ["NOTIFY=NEVER"]
    reports = list(mail.send_many(batch))
    assert [len(report.accepted) for report in reports] == [1, 1, 0, 1]
    assert isinstance(reports[2].error, ValueError)
    assert batch[2].delivery_report is reports[2]
    assert "RET=HDRS" in smtpd.messages[1].mail_parameters
    assert smtpd.messages[2].rcpt_parameters["d@example.com"] == ("NOTIFY=NEVER",)


def test_a_server_that_is_not_there(make_app: MakeApp) -> None:
    server = ScriptedServer().start()
    server.stop()
    failed: list[Any] = []

    def listen(app: Flask, error: Exception, message: Message, **about: Any) -> None:
        failed.append((error, message))

    with make_app(MAIL_PORT=server.port).app_context(), email_failed.connected_to(listen):
        batch = list(messages("a@example.com", "b@example.com"))
        reports = list(Mail().send_many(batch))
    for message, report, (error, told) in zip(batch, reports, failed, strict=True):
        assert report.error is error
        assert type(error).__module__ == "mailbridge_flask.exceptions"
        assert error.message is told is message


def test_suppressed_and_kept_back(app: Flask, mail: Mail, smtpd: ScriptedServer) -> None:
    def cancel(sender: Flask, message: Message, **about: Any) -> None:
        if message.recipients == ["no@example.com"]:
            raise CancelSend

    with email_sending.connected_to(cancel):
        reports = list(mail.send_many(messages("no@example.com", "a@example.com")))
    assert [len(report.accepted) for report in reports] == [0, 1]
    assert reports[0].failure() is None
    app.config["TESTING"] = True
    with mail.record_messages() as outbox:
        assert len(list(mail.send_many(messages("a@example.com", "b@example.com")))) == 2
    assert len(outbox) == 2
    assert len(smtpd.messages) == 1


def test_an_error_of_a_receiver_ends_the_batch(mail: Mail, smtpd: ScriptedServer) -> None:
    def fail(sender: Flask, message: Message, **about: Any) -> None:
        if message.recipients == ["bug@example.com"]:
            raise RuntimeError("a bug")

    reports = mail.send_many(messages("a@example.com", "bug@example.com", "b@example.com"))
    with email_sending.connected_to(fail):
        # What was on its way is told of before.
        assert next(reports).accepted == ("a@example.com",)
        with pytest.raises(RuntimeError, match="a bug"):
            next(reports)
    assert len(smtpd.messages) == 1


def test_a_caller_that_stops_early(mail: Mail, smtpd: ScriptedServer) -> None:
    reports = mail.send_many(messages(*["a@example.com"] * 5))
    assert next(reports).accepted
    reports.close()
    # The connection is of use to the next.
    mail.send_message("Hi", ["b@example.com"])
    assert smtpd.messages[-1].recipients == ("b@example.com",)


def test_no_more_are_held_than_are_on_their_way(mail: Mail) -> None:
    alive: list[weakref.ref[Message]] = []

    def many() -> Iterator[Message]:
        for message in messages(*["a@example.com"] * 30):
            alive.append(weakref.ref(message))
            yield message

    for _ in mail.send_many(many()):
        assert sum(each() is not None for each in alive) <= 4


def test_by_a_connection_and_by_another_mailer(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    bulk = {"MAIL_DEFAULT_SENDER": "news@example.org"}
    with make_app(MAIL_MAILERS={"bulk": bulk}, MAIL_MAX_EMAILS=2).app_context():
        with Mail().connect() as connection:
            assert len(list(connection.send_many(messages(*["a@example.com"] * 3)))) == 3
            assert connection.num_emails == 3
        assert len(list(Mail().using("bulk").send_many(messages("b@example.com")))) == 1
    assert [each.mail_from for each in smtpd.messages] == ["site@example.org"] * 3 + [
        "news@example.org"
    ]
