"""`anymail_status`, by the real django-anymail."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

from mailbridge import Phase, RecipientResult, Reply, State
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, anymail
from mailbridge_django.exceptions import DeliveryInDoubt, SomeRecipientsRefused

Make = Callable[..., EmailBackend]
APPS = ["mailbridge_django", "django.contrib.auth", "django.contrib.contenttypes"]


@pytest.fixture
def installed() -> Iterator[None]:
    with override_settings(INSTALLED_APPS=[*APPS, "anymail"]):
        yield


def message(*to: str) -> Any:
    return EmailMessage("subject", "text", "app@example.org", list(to) or ["ida@example.com"])


@pytest.mark.usefixtures("installed")
def test_each_recipient(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.com", 550, "5.1.1 No such user")
    smtpd.refuse("spam@example.com", 554, "5.7.1 Not you")
    smtpd.defer("later@example.com")
    one = message("ida@example.com", "gone@example.com", "spam@example.com", "later@example.com")
    with pytest.raises(SomeRecipientsRefused):
        backend().send_messages([one])
    status = one.anymail_status
    assert {a: found.status for a, found in status.recipients.items()} == {
        "ida@example.com": "queued",
        "gone@example.com": "invalid",
        "spam@example.com": "rejected",
        "later@example.com": "failed",
    }
    assert status.status == {"queued", "invalid", "rejected", "failed"}
    assert status.message_id == one.delivery_report.message_id is not None
    assert status.esp_response is one.delivery_report
    assert pickle.loads(pickle.dumps(status)).status == status.status


@pytest.mark.usefixtures("installed")
def test_in_doubt_and_nobody(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.drop("content", times=1)
    one, invalid, nobody = message(), message("not an address@"), message("")
    with pytest.raises(DeliveryInDoubt):
        backend().send_messages([one])
    assert one.anymail_status.status == {"unknown"}
    with pytest.raises(ValueError, match="not an address"):
        backend().send_messages([invalid, nobody])
    assert invalid.anymail_status.status == {"failed"}
    assert nobody.anymail_status.status is None


REFUSED = Reply(554, (b"5.6.0 Not that",))


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (RecipientResult("a", State.REFUSED, Phase.CONTENT, REFUSED), "failed"),
        (RecipientResult("a", State.REFUSED, Phase.RCPT, Reply(550, (b"no",))), "rejected"),
        (RecipientResult("a", State.REFUSED, reason="needs SMTPUTF8"), "invalid"),
        (RecipientResult("a", State.NOT_ATTEMPTED), "failed"),
    ],
)
def test_states(result: RecipientResult, status: str) -> None:
    assert anymail.status_of(result) == status


def test_not_without_anymail(backend: Make) -> None:
    one = message()
    backend().send_messages([one])
    assert not hasattr(one, "anymail_status")
