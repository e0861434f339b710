"""Several messages over one connection."""

from __future__ import annotations

import contextlib
from unittest import mock

import pytest
from flask import Flask

from mailbridge.testing import ScriptedServer
from mailbridge_flask import Connection, Mail, Message, SomeRecipientsRefused
from mailbridge_flask.exceptions import ConnectRefused, PoolTimeout
from tests.flask.conftest import MakeApp


def connections(smtpd: ScriptedServer) -> list[int]:
    return [received.connection for received in smtpd.messages]


def test_one_connection_for_the_block(mail: Mail, message: Message, smtpd: ScriptedServer) -> None:
    with mail.connect() as connection:
        assert isinstance(connection, Connection)
        assert smtpd.wait_for(0) == ()
        for _ in range(3):
            report = connection.send(message)
            assert report.accepted
        connection.send_message("Hi", ["c@example.com"])
        assert message.send(connection) is message.delivery_report
        assert connection.num_emails == 5
    assert connections(smtpd) == [1] * 5
    # It waits for the next mail, in the process's pool.
    assert "C: QUIT" not in smtpd.transcript
    mail.send(message)
    assert smtpd.connections == 1


def test_max_emails(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    with make_app(MAIL_MAX_EMAILS=2).app_context(), Mail().connect() as connection:
        for n in range(5):
            connection.send_message(str(n), ["a@example.com"])
    assert connections(smtpd) == [1, 1, 2, 2, 3]


def test_no_connection_too_many(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    # Flask-Mail reconnects after the last message, for nothing.
    with make_app(MAIL_MAX_EMAILS=2).app_context(), Mail().connect() as connection:
        for n in range(2):
            connection.send_message(str(n), ["a@example.com"])
    assert smtpd.connections == 1


def test_a_refusal_does_not_end_the_block(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    smtpd.refuse("b@example.com", times=1)
    with mail.connect() as connection:
        with pytest.raises(SomeRecipientsRefused):
            connection.send(message)
        connection.send(message)
    assert connections(smtpd) == [1, 1]


def test_a_server_that_hangs_up_is_connected_to_again(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    smtpd.drop_after(1)
    with mail.connect() as connection:
        for _ in range(3):
            connection.send(message)
    assert connections(smtpd) == [1, 2, 3]


def test_a_server_that_goes_away_for_good(make_app: MakeApp) -> None:
    server = ScriptedServer().start()
    with make_app(MAIL_PORT=server.port).app_context(), Mail().connect() as connection:
        connection.send_message("Hi", ["a@example.com"])
        server.stop()
        message = Message("Hi", ["a@example.com"])
        with pytest.raises(ConnectRefused) as caught:
            connection.send(message)
    assert caught.value.message is message
    assert caught.value.report is message.delivery_report
    assert message.delivery_report is not None
    assert message.delivery_report.not_attempted == ("a@example.com",)


def test_outside_a_block_no_connection_is_held(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    with make_app(MAIL_MAX_CONNECTIONS=1, MAIL_POOL_TIMEOUT=0.5).app_context():
        for connection in (Mail().connect(), Mail().connect()):
            connection.send_message("Hi", ["a@example.com"])
            connection.send_message("Hi", ["a@example.com"])
        # Within one it is, and nobody else gets it.
        with Mail().connect(), pytest.raises(PoolTimeout):
            Mail().send_message("Hi", ["a@example.com"])
    assert connections(smtpd) == [1] * 4


def test_suppression_changes_within_the_block(
    app: Flask, mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    app.config["MAIL_SUPPRESS_SEND"] = True
    with mail.connect() as connection:
        connection.send(message)
        app.config["MAIL_SUPPRESS_SEND"] = False
        connection.send(message)
        connection.send(message)
    assert connections(smtpd) == [1, 1]


def test_a_bad_message_is_found_before_a_command_is_sent(
    mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    with mail.connect() as connection:
        with pytest.raises(ValueError, match="subject"):
            connection.send_message("a\nb", ["a@example.com"])
        connection.send(message)
    assert smtpd.transcript.count("MAIL FROM") == 1


def test_debug_tells_of_every_connection(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    with make_app(MAIL_DEBUG="1", MAIL_MAX_EMAILS=1).app_context(), Mail().connect() as connection:
        for n in range(2):
            connection.send_message(str(n), ["a@example.com"])
    said = capfd.readouterr().err
    for line in ("S: 220 ", "C: EHLO ", "C: RCPT TO:<a@example.com>", "C: QUIT"):
        assert said.count(line) == 2


def test_a_way_to_connect_that_would_be_passed_over_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Own\.configure_host would not be called: set MAIL_SSL"):
        type("Own", (Connection,), {"configure_host": lambda self: None})


def test_a_stand_in_is_called_as_smtplib_is(make_app: MakeApp) -> None:
    told: list[Message] = []
    with make_app(TESTING=True).app_context(), Mail().connect() as connection:
        assert connection.host is None
        with mock.patch.object(connection, "host") as host, Mail().record_messages() as told:
            message = Message("Hi", ["Ä <a@example.com>"], mail_options=["BODY=7BIT"])
            report = connection.send(message, "bounces@example.org")
            host.sendmail.assert_called_once_with(
                "bounces@example.org",
                ["=?utf-8?b?w4Q=?= <a@example.com>"],
                message.as_bytes(),
                ["BODY=7BIT"],
                [],
            )
            connection.send(message, "<>")
            assert host.sendmail.call_args.args[0] == "<>"
    assert report.accepted == ("a@example.com",)
    assert connection.num_emails == 2
    assert told == [message, message]


@pytest.mark.parametrize("policy", ["raise", "report"])
def test_whom_a_stand_in_refuses(make_app: MakeApp, policy: str) -> None:
    message = Message("Hi", ["a@example.com", "b@example.com", "c@example.com"], sender="s@x.org")
    refused = {"b@example.com": (550, b"gone"), "c@example.com": (451, b"later")}
    raises = policy == "raise"
    with make_app(MAIL_ON_REFUSED=policy).app_context():
        connection = Mail().connect()
        connection.host = mock.Mock(**{"sendmail.return_value": refused})
        caught = pytest.raises(SomeRecipientsRefused) if raises else contextlib.nullcontext()
        with caught:
            connection.send(message)
        assert not raises or caught.excinfo.value.message is message  # type: ignore[union-attr]
        connection.host.sendmail.side_effect = OSError("away")
        with pytest.raises(OSError, match="away"):
            connection.send(Message("Hi", ["a@example.com"]))
    report = message.delivery_report
    assert report is not None
    assert report.accepted == ("a@example.com",)
    assert (report.refused, report.deferred) == (("b@example.com",), ("c@example.com",))
    assert str(report["b@example.com"].reply) == "550 gone"
