"""The log's one line a message, and MAIL_ON_REPORT, for every way that a message can end."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from flask import Flask

from mailbridge import DeliveryReport, InvalidInput
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, Message
from mailbridge_flask.exceptions import ConnectRefused

told: list[DeliveryReport] = []


def observer(report: DeliveryReport) -> None:
    told.append(report)


@pytest.fixture
def mail() -> Iterator[Mail]:
    told.clear()
    with ScriptedServer() as server:
        app = Flask(__name__)
        app.config.update(
            MAIL_SERVER=server.host,
            MAIL_PORT=server.port,
            MAIL_DEFAULT_SENDER="app@example.org",
            MAIL_ON_REPORT=f"{__name__}.observer",
            MAIL_MAILERS={"bulk": {}, "nowhere": {"MAIL_PORT": 9}},
        )
        with app.app_context():
            yield Mail(app)


def message(to: str = "ida@example.com") -> Message:
    return Message("subject", recipients=[to], body="text")


def test_a_message(mail: Mail, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mailbridge")
    assert told == [mail.send(message())]
    (record,) = [record for record in caplog.records if hasattr(record, "accepted")]
    assert (record.accepted, record.mailer) == (1, "default")  # type: ignore[attr-defined]
    assert "example.com" not in record.getMessage()


def test_the_name_of_the_mailer(mail: Mail) -> None:
    mail.using("bulk").send(message())
    with mail.connect() as connection:
        connection.send(message())
    assert [report.mailer for report in told] == ["bulk", "default"]


def test_what_was_not_tried(mail: Mail) -> None:
    with pytest.raises(ConnectRefused):
        mail.using("nowhere").send(message())
    with pytest.raises(InvalidInput):
        mail.send(message("not an address@"))
    unreachable, invalid = told
    assert unreachable.mailer == "nowhere"
    assert invalid.error is not None
