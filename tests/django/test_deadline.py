"""The option `deadline`: for each message, from the moment that it waits for a connection."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from django.core.mail import EmailMessage

from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend

Make = Callable[..., EmailBackend]


def message() -> EmailMessage:
    return EmailMessage("Hi", "Body", "me@example.org", ["a@example.com"])


@pytest.mark.parametrize("kind", ["pipelined", "one by one"])
def test_connecting_counts(backend: Make, smtpd: ScriptedServer, kind: str) -> None:
    """What opening the connection took is not there any more for the first message."""

    class OneByOne(EmailBackend):
        def _send(self, email_message: EmailMessage) -> bool:
            return super()._send(email_message)

    smtpd.delay("EHLO", 1)
    smtpd.delay("MAIL", 1, times=1)
    sender = backend(OneByOne if kind == "one by one" else EmailBackend, deadline=1.7, timeout=30)
    first, second = message(), message()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"deadline of 1\.7 s"):
        sender.send_messages([first, second])
    assert time.monotonic() - started < 10
    assert first.delivery_report.not_attempted
    assert second.delivery_report.accepted


def test_connecting_itself(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.silent("GREETING")
    with pytest.raises(TimeoutError, match=r"deadline of 0\.2 s"):
        backend(deadline="0.2", timeout=30).send_messages([message()])
