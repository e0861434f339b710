"""``flask mail check`` and ``flask mail send``."""

from __future__ import annotations

import json

import click
import pytest
from flask import Flask

from mailbridge.testing import ScriptedServer
from tests.flask.conftest import MakeApp


def test_check_says_what_it_found(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    app = make_app(MAIL_DEFAULT_SENDER=("The shop", "shop@example.org"))
    result = app.test_cli_runner().invoke(args=["mail", "check", "--rcpt", "a@example.com"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("All is well.\n")
    assert "C: MAIL FROM:<shop@example.org>" in smtpd.transcript
    assert not smtpd.messages


def test_a_step_that_fails_is_an_exit_status(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    smtpd.refuse("bad@example.com")
    result = make_app().test_cli_runner().invoke(args=["mail", "check", "--rcpt=bad@example.com"])
    assert result.exit_code == 1
    assert "550 5.1.1" in result.output


def test_every_relay_is_checked(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    app = make_app(MAIL_RELAYS=[smtpd.url])
    result = app.test_cli_runner().invoke(args=["mail", "check", "--json"])
    assert result.exit_code == 0
    assert len(json.loads(result.output)) == 2


@pytest.mark.parametrize(
    "words", [["check", "--rcpt", "a b"], ["send", "--to", "a b", "--body", "Hello."]]
)
def test_no_address(make_app: MakeApp, words: list[str], smtpd: ScriptedServer) -> None:
    result = make_app().test_cli_runner().invoke(args=["mail", *words])
    assert result.exit_code == 2
    assert "a b" in result.output
    assert not smtpd.messages


def test_send_says_what_became_of_each(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    smtpd.refuse("bad@example.com")
    words = ["mail", "send", "--to", "a@example.com", "--to", "bad@example.com", "--body", "Hi."]
    result = make_app().test_cli_runner().invoke(args=words)
    assert result.exit_code == 1
    assert "a@example.com: accepted" in result.output
    assert "bad@example.com: refused (550 5.1.1" in result.output
    (message,) = smtpd.messages
    assert message.recipients == ("a@example.com",)


def test_send_reads_the_text(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    runner = make_app().test_cli_runner()
    result = runner.invoke(args=["mail", "send", "--to", "a@example.com"], input="From a pipe.\n")
    assert result.exit_code == 0, result.output
    assert b"From a pipe." in smtpd.messages[0].content


def test_no_server(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    app = make_app()
    smtpd.stop()
    result = app.test_cli_runner().invoke(args=["mail", "send", "--to=a@example.com", "--body=x"])
    assert result.exit_code == 1
    assert "connection refused" in result.output
    assert "a@example.com: not_attempted" in result.output


def test_an_application_without_mail(make_app: MakeApp) -> None:
    app = Flask("bare")
    app.cli.add_command(make_app().cli.commands["mail"])
    result = app.test_cli_runner().invoke(args=["mail", "check"])
    assert result.exit_code == 1
    assert "call mail.init_app(app)" in result.output


def test_an_application_keeps_its_own_command(make_app: MakeApp) -> None:
    from mailbridge_flask import Mail

    app = Flask("own")
    own = click.Group("mail")
    app.cli.add_command(own)
    app.config["MAIL_SERVER"] = "localhost"
    Mail(app)
    assert app.cli.commands["mail"] is own
