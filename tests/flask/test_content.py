"""What is done to the content of a message on its way: nothing, since it is built to fit."""

from __future__ import annotations

from mailbridge.testing import ScriptedServer
from mailbridge_flask import Config, Mail
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
