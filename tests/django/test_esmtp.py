"""What a message asks of the server, by its attribute `esmtp` and by the option of that name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mailbridge import DSN, Esmtp
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, exceptions

Make = Callable[..., EmailBackend]


def message() -> EmailMessage:
    return EmailMessage("Hi", "Body", "me@example.org", ["a@example.com", "b@example.com"])


def test_message_and_option(backend: Make, smtpd: ScriptedServer) -> None:
    sender = backend(esmtp={"dsn": {"notify": "failure", "ret": "hdrs"}})
    asking = message()
    asking.esmtp = Esmtp(dsn=DSN(envid="1", notify_each={asking.to[0]: "never"}))
    assert sender.send_messages([asking, message()]) == 2
    assert sender.send_messages([asking]) == 1
    one, two, three = smtpd.messages
    assert one.mail_parameters[1:] == three.mail_parameters[1:] == ("RET=HDRS", "ENVID=1")
    assert one.rcpt_parameters[asking.to[0]] == ("NOTIFY=NEVER",)
    assert one.rcpt_parameters[asking.to[1]] == ("NOTIFY=FAILURE",)
    assert two.mail_parameters[1:] == ("RET=HDRS",)
    assert set(two.rcpt_parameters.values()) == {("NOTIFY=FAILURE",)}


def test_not_offered(backend: Make, smtpd: ScriptedServer) -> None:
    smtpd.without("DSN")
    asking = message()
    asking.esmtp = {"dsn": {"envid": "1"}}
    with pytest.raises(exceptions.MailError, match="extension DSN") as caught:
        backend().send_messages([asking, message()])
    assert caught.value.message is asking
    assert asking.delivery_report.not_attempted
    assert len(smtpd.messages) == 1


def test_what_cannot_be(backend: Make, smtpd: ScriptedServer) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"esmtp: notify is 'often'"):
        backend(esmtp={"dsn": {"notify": "often"}})
    with pytest.raises(ImproperlyConfigured, match="esmtp: esmtp has no 'dns'"):
        backend(esmtp={"dns": {}})
    asking = message()
    asking.esmtp = {"mt_priority": 10}
    with pytest.raises(ValueError, match="mt_priority is 10"):
        backend().send_messages([asking])
    assert smtpd.messages == ()


class Overridden(EmailBackend):
    def _send(self, email_message: EmailMessage) -> bool:
        return super()._send(email_message)


def test_one_by_one(backend: Make, smtpd: ScriptedServer) -> None:
    """A subclass that sends each message itself."""
    asking = message()
    asking.esmtp = Esmtp(dsn=DSN(ret="full"))
    assert backend(Overridden).send_messages([asking]) == 1
    assert smtpd.messages[0].mail_parameters[1:] == ("RET=FULL",)


def test_connections_of_others_cannot(backend: Make, smtpd: ScriptedServer) -> None:
    """An object with smtplib's sendmail knows nothing of it; to drop it silently would be a lie."""

    class Other:
        def sendmail(self, *args: object) -> dict[str, object]:
            raise AssertionError("sent without what was asked for")

        def quit(self) -> None:
            pass

    sender = backend()
    sender.connection = Other()
    asking = message()
    asking.esmtp = Esmtp(mt_priority=1)
    with pytest.raises(ImproperlyConfigured, match="esmtp needs a connection"):
        sender.send_messages([asking])
