"""The extension and its state: applications, factories, suppression, recording."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from flask import Flask, current_app

from mailbridge import State
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, MailState, Message, email_dispatched
from tests.flask.conftest import MakeApp


def test_init_app_returns_the_state_and_keeps_no_application() -> None:
    app = Flask("site")
    mail = Mail()
    state = mail.init_app(app)
    assert isinstance(state, MailState)
    assert app.extensions["mail"] is state
    assert vars(mail) == {}
    assert vars(Mail(app)) == {}


def test_third_party_code_finds_send_on_the_state(
    app: Flask, message: Message, smtpd: ScriptedServer
) -> None:
    report = current_app.extensions["mail"].send(message)
    assert report.accepted == ("a@example.com", "b@example.com")
    current_app.extensions["mail"].send_message("Hi", recipients=["c@example.com"])
    with current_app.extensions["mail"].connect() as connection:
        connection.send(message)
    assert len(smtpd.messages) == 3


def test_one_mail_for_several_applications(make_app: MakeApp) -> None:
    mail = Mail()
    senders: list[Flask] = []

    def receive(app: Flask, message: Message) -> None:
        senders.append(app)

    with ScriptedServer() as first, ScriptedServer() as second:
        apps = []
        for server in (first, second):
            app = make_app(MAIL_PORT=server.port, MAIL_DEFAULT_SENDER=f"a{server.port}@example.org")
            mail.init_app(app)
            apps.append(app)
        with email_dispatched.connected_to(receive):
            for app in apps:
                with app.app_context():
                    mail.send_message("Hi", ["b@example.com"])
        for server in (first, second):
            (received,) = server.messages
            assert received.mail_from == f"a{server.port}@example.org"
    assert senders == apps
    assert all(type(sender) is Flask for sender in senders)


def test_the_configuration_is_read_once(app: Flask, mail: Mail, smtpd: ScriptedServer) -> None:
    config = app.extensions["mail"].config
    app.config.update(MAIL_PORT=1, MAIL_DEFAULT_SENDER="other@example.org")
    mail.send_message("Hi", ["b@example.com"])
    assert smtpd.messages[0].mail_from == "site@example.org"
    assert app.extensions["mail"].config is config
    with pytest.raises(AttributeError):
        config.debug = True
    assert "site@example.org" in repr(config)


def test_without_an_application_or_init_app() -> None:
    mail = Mail()
    message = Message("Hi", ["b@example.com"], sender="a@example.org")
    with pytest.raises(RuntimeError, match="application context"):
        mail.send(message)
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match=r"mail\.init_app\(app\)"):
        mail.send(message)


def test_the_state_needs_no_application_context(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    # A worker that was given the state and a message out of a queue.
    state = make_app().extensions["mail"]
    message = pickle.loads(pickle.dumps(Message("Hi", ["b@example.com"])))
    assert message.sender is None
    state.send(message)
    assert message.sender == "site@example.org"
    assert smtpd.messages[0].message["From"] == "site@example.org"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"TESTING": True}, "TESTING"),
        ({"MAIL_SUPPRESS_SEND": True}, "MAIL_SUPPRESS_SEND"),
        ({"MAIL_SUPPRESS_SEND": "true", "TESTING": False}, "MAIL_SUPPRESS_SEND"),
        ({"MAIL_SUPPRESS_SEND": False, "TESTING": True}, None),
        ({"MAIL_SUPPRESS_SEND": "0", "TESTING": True}, None),
        ({"MAIL_SUPPRESS_SEND": None, "TESTING": True}, "TESTING"),
        ({}, None),
    ],
)
def test_suppression_is_looked_up_when_sending(
    app: Flask,
    mail: Mail,
    message: Message,
    smtpd: ScriptedServer,
    config: dict[str, object],
    reason: str | None,
) -> None:
    app.config.update(config)
    with mail.record_messages() as outbox:
        report = mail.send(message)
        with mail.connect() as connection:
            connection.send(message)
    assert outbox == [message, message]
    assert mail.suppress is (reason is not None)
    assert len(smtpd.messages) == (0 if reason else 2)
    assert smtpd.connections == (0 if reason else 1)
    for result in report:
        assert result.state is (State.NOT_ATTEMPTED if reason else State.ACCEPTED)
        assert reason is None or reason in str(result.reason)
    report.raise_for_refused()


def test_suppressed_messages_are_checked_all_the_same(app: Flask, mail: Mail) -> None:
    app.config["TESTING"] = True
    for bad in ({"recipients": []}, {"recipients": ["nobody@"]}, {"subject": "a\nb"}):
        with pytest.raises(ValueError, match=r"recipients|address|subject"):
            mail.send_message(**{"subject": "Hi", "recipients": ["b@example.com"], **bad})


def test_suppress_on_the_state_wins(
    app: Flask, mail: Mail, message: Message, smtpd: ScriptedServer
) -> None:
    app.config["TESTING"] = True
    app.extensions["mail"].suppress = False
    mail.send(message)
    assert smtpd.connections == 1
    app.extensions["mail"].suppress = True
    app.config["TESTING"] = False
    report = mail.send(message)
    assert smtpd.connections == 1
    assert "state.suppress" in str(report["a@example.com"].reason)


def test_record_messages(make_app: MakeApp) -> None:
    one, two = make_app(TESTING=True), make_app(TESTING=True)
    mail = Mail()
    with mail.record_messages() as everything, one.extensions["mail"].record_messages() as own:
        for app in (one, two):
            with app.app_context():
                mail.send_message(app.name, ["b@example.com"])
    assert len(everything) == 2
    assert own == everything[:1]
    with one.app_context():
        mail.send_message("later", ["b@example.com"])
    assert len(everything) == 2


def test_settings_by_their_old_names(app: Flask, mail: Mail, smtpd: ScriptedServer) -> None:
    assert mail.server == smtpd.host
    assert mail.port == smtpd.port
    assert mail.default_sender == "site@example.org"
    assert (mail.username, mail.debug, mail.max_emails) == (None, False, None)
    assert mail.ascii_attachments is False
    assert (mail.use_tls, mail.use_ssl) == (False, False)
    assert mail.suppress is False
    app.extensions["mail"].default_sender = ("Site", "new@example.org")
    assert Message("Hi").sender == "Site <new@example.org>"


def test_init_mail_makes_a_state_without_keeping_it(app: Flask, mail: Mail) -> None:
    state = mail.init_mail({"MAIL_SERVER": "mx.example.org", "MAIL_DEBUG": 1}, testing=True)
    assert state.server == "mx.example.org"
    assert state.debug
    assert state.suppress
    assert mail.state is not state


def test_views_of_one_application_send_at_the_same_time(app: Flask, smtpd: ScriptedServer) -> None:
    smtpd.delay("MAIL", 0.3)
    both = threading.Barrier(2, timeout=5)

    def view() -> None:
        with app.app_context():
            both.wait()
            Mail().send_message("Hi", ["b@example.com"])

    threads = [threading.Thread(target=view) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert {received.connection for received in smtpd.messages} == {1, 2}


def test_asend(app: Flask, mail: Mail, message: Message, smtpd: ScriptedServer) -> None:
    report = asyncio.run(mail.asend(message))
    assert report.accepted == ("a@example.com", "b@example.com")
    assert len(smtpd.messages) == 1


def test_a_view_sends(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    app = make_app()
    mail = Mail()

    @app.post("/")
    def contact() -> dict[str, object]:
        return mail.send_message("Hi", ["b@example.com"], body="Hello").to_dict()

    answer = app.test_client().post("/").get_json()
    assert answer["recipients"]["b@example.com"]["state"] == "accepted"
    assert len(smtpd.messages) == 1
