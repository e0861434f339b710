"""The log's one line a message, and on_report, for every way that a message can end."""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage

from mailbridge import DeliveryReport
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend
from mailbridge_django.exceptions import BatchError, ConnectRefused

Make = Callable[..., EmailBackend]
told: list[DeliveryReport] = []


def observer(report: DeliveryReport) -> None:
    told.append(report)


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    told.clear()


def message(*to: str) -> EmailMessage:
    return EmailMessage("subject", "text", "app@example.org", list(to) or ["ida@example.com"])


def test_a_site(
    site: Callable[..., None], smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mailbridge")
    site(on_report=f"{__name__}.observer")
    mail.send_mail("subject", "text", "app@example.org", ["ida@example.com", "bob@example.com"])
    (report,) = told
    assert report.mailer == "default"
    (record,) = [record for record in caplog.records if hasattr(record, "accepted")]
    assert (record.accepted, record.mailer) == (2, "default")  # type: ignore[attr-defined]
    assert record.message_id == report.message_id is not None  # type: ignore[attr-defined]
    assert "example.com" not in record.getMessage()


def reports_of(batch: list[EmailMessage]) -> list[DeliveryReport]:
    return [each.delivery_report for each in batch]  # type: ignore[attr-defined]


@pytest.mark.parametrize("plain", [True, False])
def test_each_of_a_batch(backend: Make, smtpd: ScriptedServer, plain: bool) -> None:
    class Overridden(EmailBackend):
        def _send(self, email_message: EmailMessage) -> bool:
            return super()._send(email_message)

    smtpd.refuse("gone@example.com")
    batch = [message(), message("gone@example.com"), message("not an address@"), message()]
    with pytest.raises(BatchError):
        backend(EmailBackend if plain else Overridden, on_report=observer).send_messages(batch)
    assert sorted(map(id, told)) == sorted(map(id, reports_of(batch)))
    assert {report.mailer for report in told} == {"test"}


def test_nobody_there(backend: Make) -> None:
    batch = [message(), message()]
    with pytest.raises(ConnectRefused):
        backend(port=9, on_report=observer).send_messages(batch)
    assert list(map(id, told)) == list(map(id, reports_of(batch)))


def test_a_server_that_is_lost(backend: Make, smtpd: ScriptedServer) -> None:
    batch = [message(), message(), message()]
    sender = backend(on_report=observer, max_messages=1)
    smtpd.drop_after(1)
    with sender:
        smtpd.stop()
        with pytest.raises(BatchError):
            sender.send_messages(batch)
    assert sorted(map(id, told)) == sorted(map(id, reports_of(batch)))


def test_a_connection_of_somebody_else(backend: Make, smtpd: ScriptedServer) -> None:
    class Old(EmailBackend):
        @property
        def connection_class(self) -> Any:
            return smtplib.SMTP

    one = message()
    assert backend(Old, on_report=observer).send_messages([one]) == 1
    (report,) = told
    assert report is one.delivery_report  # type: ignore[attr-defined]
    assert report.seconds is not None
    assert report.mailer == "test"
