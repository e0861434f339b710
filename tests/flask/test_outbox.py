"""MAIL_OUTBOX, and the mailbox page as a blueprint."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, Message, SomeRecipientsRefused
from mailbridge_flask.preview import blueprint

mail = Mail()


def make(path: Path, **config: object) -> Flask:
    app = Flask(__name__, instance_path=str(path))
    app.debug = True
    app.config.update(MAIL_OUTBOX=True, MAIL_DEFAULT_SENDER="a@example.org", **config)
    mail.init_app(app)
    app.register_blueprint(blueprint, url_prefix="/mail")
    return app


def names(app: Flask) -> list[str]:
    return [each.id for each in app.extensions["mail"].outbox.entries()]


def test_it_captures_and_does_not_send(tmp_path: Path) -> None:
    app = make(tmp_path, MAIL_SERVER="127.0.0.1", MAIL_PORT=9)
    with app.app_context():
        report = mail.send(Message("Hi", recipients=["b@example.org"], body="Words"))
        with mail.connect() as connection:
            connection.send(Message("Two", recipients=["b@example.org"], body="Words"))
    assert report.not_attempted == ("b@example.org",)
    assert len(names(app)) == 2
    assert b"Two" in app.test_client().get("/mail/").data


def test_it_sends_as_well_and_keeps_the_report(tmp_path: Path, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.net", 550, "5.1.1 No such user")
    app = make(tmp_path, MAIL_SERVER=smtpd.host, MAIL_PORT=smtpd.port, MAIL_OUTBOX_SEND=True)
    with app.app_context(), pytest.raises(SomeRecipientsRefused):
        mail.send(Message("Hi", recipients=["b@example.org", "gone@example.net"], body="x"))
    assert len(smtpd.messages) == 1
    page = app.test_client().get(f"/mail/{names(app)[0]}/").text
    assert "1 of 2 reached" in page


def test_nothing_is_captured_under_testing(tmp_path: Path) -> None:
    app = make(tmp_path, TESTING=True)
    with app.app_context():
        mail.send(Message("Hi", recipients=["b@example.org"], body="x"))
    assert names(app) == []


@pytest.mark.parametrize("allowed", [None, lambda: False])
def test_nothing_is_served_to_others(tmp_path: Path, allowed: object) -> None:
    app = make(tmp_path, MAIL_PREVIEW_ALLOWED=allowed)
    app.debug = allowed is not None
    for rest in ("", "api/messages", "static/mailbox.css"):
        assert app.test_client().get(f"/mail/{rest}").status_code == 404
    assert app.test_client().post("/mail/clear").status_code == 404


def test_a_post_needs_the_token(tmp_path: Path) -> None:
    app = make(tmp_path)
    with app.app_context():
        mail.send(Message("Hi", recipients=["b@example.org"], body="x"))
    client = app.test_client()
    client.get("/mail/")
    cookie = client.get_cookie("mailbridge_csrf", path="/mail/")
    assert cookie is not None
    assert client.post("/mail/clear").status_code == 403
    assert client.post("/mail/clear", data={"csrf": "x" * 43}).status_code == 403
    assert client.post("/mail/clear", data={"csrf": cookie.value}).status_code == 303
    assert names(app) == []
