"""What a message asks of the server, by its argument `esmtp` and by MAIL_ESMTP."""

from __future__ import annotations

import pickle

import pytest

from mailbridge import DSN, Esmtp, OptionError
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, Message
from mailbridge_flask.config import Config
from mailbridge_flask.exceptions import MailError
from tests.flask.conftest import MakeApp


def test_message_and_setting(make_app: MakeApp, smtpd: ScriptedServer) -> None:
    app = make_app(MAIL_ESMTP={"dsn": {"notify": "failure", "ret": "hdrs"}})
    with app.app_context():
        asking = Message("Hi", ["a@example.com"], esmtp={"dsn": {"envid": "1"}})
        Mail().send(pickle.loads(pickle.dumps(asking)))
        Mail().send(Message("Hi", ["a@example.com"]), envelope_from="<>")
    one, two = smtpd.messages
    assert one.mail_parameters[1:] == ("RET=HDRS", "ENVID=1")
    assert two.mail_parameters[1:] == ("RET=HDRS",)
    assert two.rcpt_parameters == {"a@example.com": ("NOTIFY=FAILURE",)}


def test_not_offered(mail: Mail, message: Message, smtpd: ScriptedServer) -> None:
    smtpd.without("DSN")
    message.esmtp = Esmtp(dsn=DSN(envid="1"))
    with pytest.raises(MailError, match="extension DSN"):
        mail.send(message)
    assert message.delivery_report.not_attempted
    assert smtpd.messages == ()


def test_what_cannot_be(app: object) -> None:
    with pytest.raises(OptionError, match="MAIL_ESMTP: mt_priority is 10"):
        Config.from_mapping({"MAIL_ESMTP": {"mt_priority": 10}})
    with pytest.raises(ValueError, match="ret is 'none'"):
        Message("Hi", ["a@example.com"], esmtp={"dsn": {"ret": "none"}})
