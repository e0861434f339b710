"""What is done to the content of a message on its way: nothing, since it is built to fit."""

from __future__ import annotations

import pytest

from mailbridge import OptionError
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Config, Mail
from tests.dkim_keys import ED25519, pem, rsa_key, verifies
from tests.flask.conftest import MakeApp


def test_what_is_built_here_need_not_be_changed(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    smtpd.without("8BITMIME", "SMTPUTF8")
    with make_app(MAIL_STRICT="yes").app_context():
        for body in ("Grüße", "x" * 2000, "é" * 2000):
            report = Mail().send_message("Grüße", ["a@example.com"], body=body)
            assert report.changes == ()
            assert report.to_dict()["changes"] == []
    assert len(smtpd.messages) == 3


def test_strict_is_for_every_relay() -> None:
    config = Config.from_mapping(
        {"MAIL_STRICT": "1", "MAIL_RELAYS": "smtp://a.example smtp://b.example?strict=no"}
    )
    assert [relay.strict for relay in (config.relay, *config.relays)] == [True, True, True]
    config = Config.from_mapping({"MAIL_RELAYS": "smtp://a.example smtp://b.example?strict=yes"})
    assert [relay.strict for relay in (config.relay, *config.relays)] == [False, False, True]


DKIM = {"MAIL_DKIM_DOMAIN": "example.org", "MAIL_DKIM_SELECTOR": "ed1", "MAIL_DKIM_KEY": ED25519}


@pytest.mark.parametrize("keywords", [(), ("CHUNKING", "PIPELINING")])
def test_mail_is_signed(keywords: tuple[str, ...], make_app: MakeApp) -> None:
    with ScriptedServer(extensions=keywords) as smtpd:
        app = make_app(MAIL_SERVER=smtpd.host, MAIL_PORT=smtpd.port, **DKIM)
        with app.app_context(), Mail().connect() as connection:
            connection.send_message("Hi", ["a@example.com"], body=".\n.x\n")
            connection.send_message("Grüße", ["a@example.com"], body="Grüße", html="<p>Grüße</p>")
        assert [verifies(received.content) for received in smtpd.messages] == [True, True]


def test_every_relay_signs() -> None:
    config = Config.from_mapping({"MAIL_RELAYS": "smtp://a.example", **DKIM})
    assert config.relay.dkim == config.relays[0].dkim is not None


def test_a_wrong_key_is_found_when_the_extension_is_made(make_app: MakeApp) -> None:
    with pytest.raises(OptionError, match="MAIL_DKIM_KEY is neither"):
        make_app(**{**DKIM, "MAIL_DKIM_KEY": "/no/such/file"})
    with pytest.raises(OptionError, match="MAIL_DKIM_KEY is not set: DKIM needs MAIL_DKIM_DOMAIN"):
        make_app(**{**DKIM, "MAIL_DKIM_KEY": None})
    key = pem(rsa_key()).replace("\n", "\\n")
    assert make_app(**{**DKIM, "MAIL_DKIM_KEY": key}).extensions["mail"].config.relay.dkim
