"""The options before_final_dot and after_reply, by their dotted paths as settings have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from mailbridge import Handover
from mailbridge.testing import ScriptedServer
from mailbridge_django import EmailBackend, exceptions

Make = Callable[..., EmailBackend]
told: list[Handover] = []


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    told.clear()


def note(handover: Handover) -> None:
    told.append(handover)


def refuse_twice(handover: Handover) -> None:
    """A ledger that lives as long as the process."""
    if handover.message_id in [earlier.message_id for earlier in told]:
        raise LookupError("sent before")
    note(handover)


def message() -> EmailMessage:
    headers = {"Message-ID": "<1@example.org>"}
    return EmailMessage("Hi", "Body", "me@example.org", ["a@example.com"], headers=headers)


def test_by_path(backend: Make, smtpd: ScriptedServer) -> None:
    hooks = {"before_final_dot": f"{__name__}:refuse_twice", "after_reply": f"{__name__}.note"}
    sender, first, second = backend(**hooks), message(), message()
    with pytest.raises(exceptions.SendStopped, match="sent before") as caught:
        sender.send_messages([first, second])
    assert caught.value.message is second
    assert first.delivery_report.accepted
    assert second.delivery_report.not_attempted
    assert [handover.reply and handover.reply.code for handover in told] == [None, 250]
    assert len(smtpd.messages) == 1


def test_what_is_no_hook(backend: Make) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"after_reply 'no\.where' cannot be imported"):
        backend(after_reply="no.where")


def test_connections_of_others_cannot(backend: Make) -> None:
    class Other:
        def sendmail(self, *args: object) -> dict[str, object]:
            raise AssertionError("sent past the ledger")

        def quit(self) -> None:
            pass

    sender = backend(before_final_dot=note)
    sender.connection = Other()
    with pytest.raises(ImproperlyConfigured, match="before_final_dot needs a connection"):
        sender.send_messages([message()])
