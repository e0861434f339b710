"""Several messages over one connection."""

from __future__ import annotations

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
