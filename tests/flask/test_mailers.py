"""Several mailers in one application, and several applications in one process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from mailbridge import TLS, OnRefused, OptionError
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, Message
from tests.flask.conftest import MakeApp

TO = ["a@example.com"]


@pytest.fixture
def bulk_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def app(make_app: MakeApp, bulk_server: ScriptedServer) -> Iterator[Flask]:
    bulk = {
        "MAIL_SERVER": bulk_server.host,
        "MAIL_PORT": bulk_server.port,
        "MAIL_DEFAULT_SENDER": "news@example.org",
    }
    app = make_app(MAIL_MAILERS={"bulk": bulk, "slow": {"MAIL_MAX_PER_SECOND": 5}})
    with app.app_context():
        yield app


def config_of(app: Flask, name: str) -> Any:
    return app.extensions["mail"].using(name).config


def test_each_mailer_has_its_server(
    app: Flask, smtpd: ScriptedServer, bulk_server: ScriptedServer
) -> None:
    mail = Mail()
    mail.send(Message("To the desk", TO, "x"))
    mail.using("bulk").send(Message("News", TO, "x"))
    mail.using("bulk").send_message("More news", TO, "x")
    with mail.using("bulk").connect() as connection:
        connection.send(Message("Even more", TO, "x"))
    mail.using("default").send(Message("To the desk again", TO, "x"))
    assert [each.mail_from for each in smtpd.messages] == ["site@example.org"] * 2
    assert [each.mail_from for each in bulk_server.messages] == ["news@example.org"] * 3


def test_a_sender_that_was_given_stays(app: Flask, bulk_server: ScriptedServer) -> None:
    bulk = Mail().using("bulk")
    # The second is also the application's default, but somebody has said it.
    for sender in ("me@example.org", "site@example.org"):
        bulk.send(Message("News", TO, "x", sender=sender))
    changed = Message("News", TO, "x")
    changed.sender = "other@example.org"
    bulk.send(changed)
    senders = [each.mail_from for each in bulk_server.messages]
    assert senders == ["me@example.org", "site@example.org", "other@example.org"]


def test_a_mailer_can_be_named_before_there_is_an_application(
    make_app: MakeApp, smtpd: ScriptedServer
) -> None:
    mail = Mail()
    bulk = mail.using("bulk")
    one = make_app(MAIL_MAILERS={"bulk": {"MAIL_DEFAULT_SENDER": "one@example.org"}})
    two = make_app(MAIL_MAILERS={"bulk": {"MAIL_DEFAULT_SENDER": "two@example.org"}})
    for app in (one, two, one):
        with app.app_context():
            bulk.send_message("News", TO, "x")
    with pytest.raises(RuntimeError, match="application context"):
        bulk.send(Message("News", TO, "x"))
    names = ["one", "two", "one"]
    assert [each.mail_from for each in smtpd.messages] == [f"{name}@example.org" for name in names]


def test_what_is_inherited(app: Flask, make_app: MakeApp) -> None:
    slow = config_of(app, "slow")
    assert slow.relay.port == app.config["MAIL_PORT"]
    assert slow.relay.pool.max_per_second == 5
    assert slow.default_sender == "site@example.org"
    site = make_app(
        MAIL_USERNAME="me",
        MAIL_PASSWORD="hunter2",
        MAIL_USE_TLS=True,
        MAIL_ON_REFUSED="report",
        MAIL_RELAYS=["smtp://second.example.org"],
        MAIL_MAILERS={
            "url": {"MAIL_URL": "smtps://bulk.example.org"},
            "server": {"MAIL_SERVER": "bulk.example.org"},
            "same": {"MAIL_PORT": 2525},
        },
    )
    for name in ("url", "server"):
        config = config_of(site, name)
        # The password is for one server, and is not shown to another.
        assert config.relay.username is config.relay.password is None
        assert config.relays == ()
        assert config.on_refused is OnRefused.REPORT
    assert config_of(site, "url").relay.tls is TLS.IMPLICIT
    same = config_of(site, "same")
    assert (same.relay.port, same.relay.username, same.relay.tls) == (2525, "me", TLS.STARTTLS)
    assert len(same.relays) == 1


def test_a_mailer_may_differ_from_the_url_of_the_application(make_app: MakeApp) -> None:
    mailers = {"bulk": {"MAIL_PORT": 2525, "MAIL_USERNAME": "bulk", "MAIL_PASSWORD": "x"}}
    site = make_app(
        MAIL_SERVER=None,
        MAIL_PORT=None,
        MAIL_URL="smtps://me:pw@mx.example.org",
        MAIL_MAILERS=mailers,
    )
    bulk = config_of(site, "bulk").relay
    assert (bulk.address, bulk.username, bulk.tls) == ("mx.example.org:2525", "bulk", TLS.IMPLICIT)


@pytest.mark.parametrize(
    ("mailers", "says"),
    [
        (
            {"bulk": {"MAIL_URL": "smtp://a.example", "MAIL_SERVER": "b.example"}},
            r"\['bulk'\]: MAIL_SERVER and MAIL_URL contradict",
        ),
        (["bulk"], "MAIL_MAILERS is a list: give a dict"),
        ({"bulk": "smtp://x"}, r"MAIL_MAILERS\['bulk'\] is a str: give a dict"),
        ({"default": {}}, "'default' is no name for a mailer"),
        ({"": {}}, "'' is no name"),
        ({"bulk": {"MAIL_SEVER": "x"}}, r"MAIL_MAILERS\['bulk'\].*did you mean MAIL_SERVER"),
        ({"bulk": {"MAIL_WHATEVER": "x"}}, r"\['bulk'\]: unknown setting MAIL_WHATEVER"),
        ({"bulk": {"SERVER": "x"}}, r"\['bulk'\]: unknown setting SERVER: did you mean MAIL_SERV"),
        ({"bulk": {"DEBUGGING": 1}}, "settings begin with MAIL_"),
        ({"bulk": {"MAIL_PORT": "x"}}, r"MAIL_MAILERS\['bulk'\]: MAIL_PORT"),
        ({"bulk": {"MAIL_OUTBOX": True}}, "MAIL_OUTBOX is for the whole application"),
        ({"bulk": {"MAIL_MAILERS": {}}}, "MAIL_MAILERS is for the whole application"),
    ],
)
def test_wrong_settings(make_app: MakeApp, mailers: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make_app(MAIL_MAILERS=mailers)


def test_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_MAIL_MAILERS__bulk__MAIL_URL", "smtp://bulk.example.org:2525")
    monkeypatch.setenv("FLASK_MAIL_MAILERS__bulk__MAIL_MAX_EMAILS", "3")
    app = Flask("site")
    app.config.from_prefixed_env()
    Mail(app)
    assert config_of(app, "bulk").relay.address == "bulk.example.org:2525"
    assert config_of(app, "bulk").max_emails == 3


def test_an_unknown_mailer(app: Flask) -> None:
    with pytest.raises(OptionError, match="no mailer 'bluk': MAIL_MAILERS has 'default', 'bulk'"):
        Mail().using("bluk").send_message("x", TO)


def test_suppression(app: Flask, make_app: MakeApp, smtpd: ScriptedServer) -> None:
    state = app.extensions["mail"]
    app.config["TESTING"] = True
    assert Mail().using("slow").send_message("x", TO).not_attempted == ("a@example.com",)
    app.config["TESTING"] = False
    state.suppress = True
    assert state.using("slow").suppress
    state.using("slow").suppress = False
    assert not state.using("slow").suppress
    quiet = make_app(MAIL_MAILERS={"bulk": {"MAIL_SUPPRESS_SEND": True}})
    with quiet.app_context():
        assert Mail().using("bulk").send_message("x", TO).not_attempted
        assert Mail().send_message("x", TO).accepted
    assert len(smtpd.messages) == 1


def test_a_mailer_of_a_mailer(app: Flask) -> None:
    state = app.extensions["mail"]
    assert state.using("bulk").using("slow") is state.using("slow")
    assert state.using("bulk").using("default") is state
    assert Mail().using("bulk").using("slow").state is state.using("slow")


def test_a_subclass_with_arguments_of_its_own(app: Flask) -> None:
    class Tagging(Mail):
        def __init__(self, tag: str) -> None:
            super().__init__()
            self.tag = tag

    bulk = Tagging("news").using("bulk")
    assert isinstance(bulk, Tagging)
    assert (bulk.tag, bulk.default_sender) == ("news", "news@example.org")


def test_commands(app: Flask, bulk_server: ScriptedServer) -> None:
    run = app.test_cli_runner().invoke
    done = run(args=["mail", "send", "--using", "bulk", "--to", "a@example.com", "--body", "x"])
    assert done.exit_code == 0, done.output
    assert bulk_server.messages[0].mail_from == "news@example.org"
    checked = run(args=["mail", "check", "--using", "bulk"])
    assert str(bulk_server.port) in checked.output
    unknown = run(args=["mail", "check", "--using", "bluk"])
    assert unknown.exit_code == 2
    assert "no mailer 'bluk'" in unknown.output


def test_one_extension_and_two_applications(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    mail = Mail()
    with ScriptedServer() as other:
        first, second = make_app(), make_app(MAIL_PORT=other.port)
        with first.app_context():
            mail.send_message("x", TO)
            with second.app_context():
                mail.send_message("x", TO)
            mail.send_message("x", TO)
        assert len(smtpd.messages) == 2
        assert len(other.messages) == 1
