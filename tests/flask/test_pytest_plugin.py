"""What the pytest plugin does to Flask: applications send, in spite of TESTING."""

from __future__ import annotations

import asyncio

import pytest
from flask import Flask

from mailbridge import SomeRecipientsRefused
from mailbridge.testing import Mailbox, ScriptedServer, captured
from mailbridge_flask import Mail, Message
from mailbridge_flask.testing import sending


@pytest.fixture
def app() -> Flask:
    """An application as its tests have it: to send would be to connect to nobody."""
    app = Flask("shop")
    app.config.update(
        TESTING=True,
        MAIL_URL="smtps://shop:secret@mail.example.org",
        MAIL_TIMEOUT=7,
        MAIL_DEFAULT_SENDER="shop@example.org",
    )
    Mail(app)
    return app


def message(*to: str) -> Message:
    return Message("Hello", list(to), "It works.\n")


def test_an_application_that_exists_sends_to_the_server(app: Flask, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.net")
    with app.app_context(), sending(smtpd.relay_options()):
        with pytest.raises(SomeRecipientsRefused) as caught:
            Mail().send(message("ada@example.org", "gone@example.net"))
        with Mail().connect() as connection:
            connection.send(message("ada@example.org"))
    assert list(caught.value.recipients) == ["gone@example.net"]
    assert [m.recipients for m in smtpd.messages] == [("ada@example.org",)] * 2
    assert smtpd.messages[0].user is None


def test_what_is_configured_besides_the_server_stays(app: Flask, smtpd: ScriptedServer) -> None:
    with app.app_context(), sending(smtpd.relay_options()):
        transport = Mail().state._transport()
    assert transport.relay.address == f"127.0.0.1:{smtpd.port}"
    assert transport.relay.timeouts.reply == 7
    assert transport.relay.password is None


def test_what_a_test_sets_stays_and_the_server_does_not(app: Flask, smtpd: ScriptedServer) -> None:
    with app.app_context():
        with sending(smtpd.relay_options()):
            Mail().state.default_sender = "other@example.org"
            Mail(later := Flask("later"))
            with later.app_context():
                assert Mail().state.port == smtpd.port
        assert Mail().state.default_sender == "other@example.org"
        assert Mail().state.server == "mail.example.org"
    with later.app_context():
        assert Mail().state.port == 25


def test_it_ends(app: Flask, smtpd: ScriptedServer) -> None:
    with sending(smtpd.relay_options()):
        pass
    with app.app_context():
        assert Mail().send(message("ada@example.org")).not_attempted == ("ada@example.org",)
        assert Mail().state._transport().relay.host == "mail.example.org"


def test_a_mailbox_takes_what_is_sent(app: Flask) -> None:
    mailbox = Mailbox()
    mailbox.refuse("gone@example.net")
    with app.app_context(), captured(mailbox), sending():
        assert Mail().send(message("ada@example.org")).accepted == ("ada@example.org",)
        with pytest.raises(SomeRecipientsRefused):
            Mail().send(message("eve@example.org", "gone@example.net"))
        with Mail().connect() as connection:
            connection.send(message("bob@example.org"))
        asyncio.run(Mail().asend(message("joe@example.org")))
    for name in ("ada", "eve", "bob", "joe"):
        mailbox.assert_sent(to=f"{name}@example.org", subject="Hello", count=1)
    mailbox.assert_refused("gone@example.net", code=550)
