"""Backends that send by another: redirect, log, failover; and circles, which are found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.test import override_settings

from mailbridge.testing import ScriptedServer
from mailbridge_django.backends import failover, log, redirect
from mailbridge_django.backends import mailers as of_settings
from mailbridge_django.exceptions import (
    AuthenticationFailed,
    BatchError,
    ConnectRefused,
    DeliveryInDoubt,
    MailError,
    RecipientsRefused,
    SomeRecipientsRefused,
)
from tests.django.conftest import BACKEND, MODES
from tests.django_settings import MANAGERS

BACKENDS = "mailbridge_django.backends"
REDIRECT, FAILOVER = f"{BACKENDS}.redirect.EmailBackend", f"{BACKENDS}.failover.EmailBackend"
LOG = f"{BACKENDS}.log.EmailBackend"
OURS = {"host": "127.0.0.1"}
# Port 9 is discard, where nobody listens.
NOWHERE = {"BACKEND": BACKEND, "OPTIONS": {"host": "127.0.0.1", "port": 9}}

Chain = Callable[..., None]


@pytest.fixture(autouse=True)
def _nobody_to_tell() -> Iterator[None]:
    """Without admins, since Django's own logging has a handler that tells them."""
    with override_settings(ADMINS=[], MANAGERS=[]):
        yield


@pytest.fixture(params=MODES)
def chain(request: pytest.FixtureRequest, smtpd: ScriptedServer) -> Iterator[Chain]:
    """Configures mailers: "default" as it is told, others by name, and `smtpd` as "inner"."""
    overrides: list[override_settings] = []

    def configure(backend: str, options: dict[str, Any], **others: Any) -> None:
        mailers = {
            "default": {"BACKEND": backend, "OPTIONS": options},
            "inner": {"BACKEND": BACKEND, "OPTIONS": {"host": smtpd.host, "port": smtpd.port}},
            **others,
        }
        if request.param == "mailers":
            change = override_settings(MAILERS=mailers)
        else:
            change = override_settings(
                MAILBRIDGE_MAILERS=mailers, EMAIL_BACKEND=f"{BACKENDS}.mailers.EmailBackend"
            )
        change.enable()
        overrides.append(change)

    yield configure
    for change in reversed(overrides):
        change.disable()


def message(*to: str, **arguments: Any) -> EmailMessage:
    recipients = list(to) or ["ida@example.com"]
    return EmailMessage("subject", "text", "app@example.org", recipients, **arguments)


def found(*, deploy: bool = False) -> list[str]:
    """The ids of our findings. Each has a hint."""
    messages = run_checks(tags=["mail"], include_deployment_checks=deploy)
    ours = [each for each in messages if str(each.id).startswith("mailbridge.")]
    assert all(each.hint for each in ours)
    return sorted(str(each.id).removeprefix("mailbridge.") for each in ours)


def sent_by_default(messages: list[EmailMessage]) -> int:
    """Send as an application does, whatever the version of Django."""
    if hasattr(mail, "mailers"):
        return mail.mailers["default"].send_messages(messages)
    return mail.get_connection().send_messages(messages)


# Redirecting.


def test_everything_goes_to_one_address(chain: Chain, smtpd: ScriptedServer) -> None:
    chain(REDIRECT, {"using": "inner", "to": ["qa@example.org"]})
    one = message("Ida <ida@example.com>", "bob@example.net", cc=["eve@example.com"], bcc=["x@y.z"])
    assert one.send() == 1
    (got,) = smtpd.messages
    assert got.envelope.recipients == ("qa@example.org",)
    fields = got.message
    assert fields["To"] == "qa@example.org"
    assert fields["Cc"] is None
    assert fields["X-Original-To"] == "Ida <ida@example.com>, bob@example.net"
    assert fields["X-Original-Cc"] == "eve@example.com"
    assert fields["X-Original-Bcc"] == "x@y.z"
    # The message of the application is as it was, and has the report.
    assert one.to == ["Ida <ida@example.com>", "bob@example.net"]
    assert one.extra_headers == {}
    assert one.delivery_report.accepted == ("qa@example.org",)  # type: ignore[attr-defined]


ALLOWED = ["qa@example.org", "Own.Example", "*.sub.example", "bücher.example"]


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("qa@example.org", True),
        ("QA <qa@EXAMPLE.org>", True),
        ("other@example.org", False),
        ("anybody@own.example", True),
        ("anybody@not-own.example", False),
        ("anybody@in.own.example", False),
        ("anybody@a.b.sub.example", True),
        ("anybody@sub.example", False),
        ("anybody@bücher.example", True),
        ("anybody@xn--bcher-kva.example", True),
        ('"x@own.example"@example.com', False),
        ("qa", False),
    ],
)
def test_who_is_allowed(chain: Chain, smtpd: ScriptedServer, address: str, allowed: bool) -> None:
    chain(REDIRECT, {"using": "inner", "allow": ALLOWED})
    one = message(address)
    assert one.send() == allowed
    assert len(smtpd.messages) == allowed
    if not allowed:
        report = one.delivery_report  # type: ignore[attr-defined]
        assert len(report.not_attempted) == 1
        assert "'allow'" in str(next(iter(report)))


def test_the_allowed_get_theirs_and_the_others_go_elsewhere(
    chain: Chain, smtpd: ScriptedServer
) -> None:
    chain(REDIRECT, {"using": "inner", "to": "qa@example.org", "allow": "own.example"})
    message("ida@own.example", "bob@example.com", bcc=["secret@example.com"]).send()
    message("ida@own.example").send()
    mixed, own = smtpd.messages
    assert mixed.envelope.recipients == ("ida@own.example", "qa@example.org")
    assert mixed.message["X-Original-To"] == "ida@own.example, bob@example.com"
    # Whom a blind copy was for is not told to somebody who gets the mail.
    assert b"secret@example.com" not in mixed.content
    assert own.envelope.recipients == ("ida@own.example",)
    assert own.message["X-Original-To"] is None


def test_a_field_of_the_message_s_own_is_replaced(chain: Chain, smtpd: ScriptedServer) -> None:
    chain(REDIRECT, {"using": "inner", "to": "qa@example.org"})
    message(headers={"To": "All of you <list@example.com>"}).send()
    fields = smtpd.messages[0].message
    assert fields["To"] == "qa@example.org"
    assert fields["X-Original-To"] == "All of you <list@example.com>"


def test_a_class_with_recipients_of_its_own_sends_nothing(
    chain: Chain, smtpd: ScriptedServer
) -> None:
    class Leaking(EmailMessage):
        def recipients(self) -> list[str]:
            return [*super().recipients(), "customer@example.com"]

    chain(REDIRECT, {"using": "inner", "to": "qa@example.org"})
    leaking = Leaking("s", "t", "app@example.org", ["ida@example.com"])
    with pytest.raises(ValueError, match=r"Leaking\.recipients"):
        sent_by_default([message(), leaking])
    assert len(smtpd.messages) == 1


def test_errors_are_about_the_application_s_message(chain: Chain, smtpd: ScriptedServer) -> None:
    smtpd.refuse("qa@example.org")
    chain(REDIRECT, {"using": "inner", "to": "qa@example.org"})
    one, other = message(), message()
    with pytest.raises(RecipientsRefused) as caught:
        one.send()
    assert caught.value.message is one
    assert one.delivery_report.refused == ("qa@example.org",)  # type: ignore[attr-defined]
    with pytest.raises(BatchError) as several:
        sent_by_default([one, other, message("not an address")])
    assert [getattr(e, "message", None) for e in several.value.errors] == [None, one, other]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "'to' and 'allow' are both empty"),
        ({"to": "not an address@"}, "nvalid address"),
        ({"allow": "a@b@c"}, "nvalid address"),
        ({"to": "qa@example.org", "alow": "x"}, "Did you mean 'allow'"),
        ({"to": "qa@example.org", "using": "nobody"}, "'using' names 'nobody', which is not in"),
        ({"to": "qa@example.org", "using": None}, "'using' must name one mailer"),
        ({"to": "qa@example.org", "using": ["inner", "inner"]}, "'using' must name one mailer"),
    ],
)
def test_wrong_options(chain: Chain, options: dict[str, Any], text: str) -> None:
    chain(REDIRECT, {"using": "inner", **options})
    with pytest.raises(ImproperlyConfigured, match=text):
        message().send()
    assert found() == ["E004" if "nobody" in text else "E001"]


# Circles.


def entry(backend: str, using: Any, **options: Any) -> dict[str, Any]:
    return {"BACKEND": backend, "OPTIONS": {"using": using, **options}}


@pytest.mark.parametrize(
    ("using", "others", "way"),
    [
        ("default", {}, "default -> default"),
        ("a", {"a": entry(LOG, "default")}, "default -> a -> default"),
        ("a", {"a": entry(LOG, "b"), "b": entry(LOG, "a")}, "a -> b -> a"),
    ],
)
def test_a_circle_is_found(chain: Chain, using: str, others: dict[str, Any], way: str) -> None:
    chain(LOG, {"using": using}, **others)
    with pytest.raises(ImproperlyConfigured, match=way):
        message().send()
    assert "E004" in found()


def test_two_ways_to_one_mailer_are_no_circle(chain: Chain, smtpd: ScriptedServer) -> None:
    chain(FAILOVER, {"using": ["a", "b"]}, a=entry(LOG, "inner"), b=entry(LOG, "inner"))
    assert found() == []
    assert message().send() == 1
    assert len(smtpd.messages) == 1


def test_a_backend_by_its_path(smtpd: ScriptedServer) -> None:
    with override_settings(EMAIL_HOST=smtpd.host, EMAIL_PORT=smtpd.port):
        backend = redirect.EmailBackend(using=BACKEND, to="qa@example.org")
        with backend:
            assert backend.send_messages([message()]) == 1
    assert smtpd.messages[0].envelope.recipients == ("qa@example.org",)


class Plain:
    """A backend of the time after Django's `fail_silently`: it is made without arguments."""

    def send_messages(self, messages: list[EmailMessage]) -> int:
        return len(messages)


def test_a_backend_is_not_told_what_nobody_asked_for() -> None:
    plain = f"{__name__}.Plain"
    assert log.EmailBackend(using=plain).send_messages([message()]) == 1
    with pytest.raises(TypeError):
        log.EmailBackend(using=plain, fail_silently=True).send_messages([message()])


# Failover.


def test_the_next_mailer_when_the_first_cannot_be_reached(
    chain: Chain, smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    chain(FAILOVER, {"using": ["first", "inner"]}, first=NOWHERE)
    batch = [message(), message()]
    assert sent_by_default(batch) == 2
    assert len(smtpd.messages) == 2
    assert all(each.delivery_report.accepted for each in batch)  # type: ignore[attr-defined]
    assert "2 of 2 messages not sent by 'first': going on to 'inner'" in caplog.text


def test_what_was_refused_is_not_tried_elsewhere(chain: Chain, smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second:
        smtpd.refuse("bob@example.com")
        smtpd.defer("eve@example.com")
        other = {"BACKEND": BACKEND, "OPTIONS": {"host": second.host, "port": second.port}}
        chain(FAILOVER, {"using": "inner, second"}, second=other)
        refused, some = message("bob@example.com"), message("ida@example.com", "eve@example.com")
        deferred = message("eve@example.com")
        with pytest.raises(BatchError) as caught:
            sent_by_default([refused, some, deferred])
        kinds = [type(error) for error in caught.value.errors]
        assert kinds == [RecipientsRefused, SomeRecipientsRefused]
        assert [each.envelope.recipients for each in second.messages] == [("eve@example.com",)]
        assert deferred.delivery_report.accepted == ("eve@example.com",)  # type: ignore[attr-defined]


def test_what_is_in_doubt_is_not_tried_elsewhere(chain: Chain, smtpd: ScriptedServer) -> None:
    with ScriptedServer() as second:
        smtpd.drop("content")
        other = {"BACKEND": BACKEND, "OPTIONS": {"host": second.host, "port": second.port}}
        chain(FAILOVER, {"using": ["inner", "second"]}, second=other)
        with pytest.raises(DeliveryInDoubt):
            message().send()
        assert second.messages == ()


def test_a_wrong_password_is_for_a_person_to_mend(chain: Chain, smtpd: ScriptedServer) -> None:
    with ScriptedServer(users={"u": "right"}) as first:
        wrong = {"host": first.host, "port": first.port, "username": "u", "password": "wrong"}
        chain(
            FAILOVER,
            {"using": ["first", "inner"]},
            first={"BACKEND": BACKEND, "OPTIONS": wrong},
        )
        with pytest.raises(AuthenticationFailed):
            message().send()
    assert smtpd.messages == ()


def test_the_error_of_the_last_is_raised(chain: Chain) -> None:
    chain(FAILOVER, {"using": ["a", "b"]}, a=NOWHERE, b=NOWHERE)
    with pytest.raises(ConnectRefused):
        message().send()
    with pytest.raises(MailError):
        sent_by_default([message(), message()])
    chain(FAILOVER, {"using": ["a", "b"], "fail_silently": True}, a=NOWHERE, b=NOWHERE)
    assert message().send() == 0


class Foreign(BaseEmailBackend):
    """Somebody else's backend, which gives no reports."""

    opens = True

    def open(self) -> bool:
        if not self.opens:
            raise ConnectionRefusedError("nobody there")
        return True

    def send_messages(self, email_messages: Any) -> int:
        if self.opens:
            raise OSError("lost on the way")
        raise AssertionError("not open")


class Closed(Foreign):
    opens = False


def test_a_backend_without_reports(chain: Chain, smtpd: ScriptedServer) -> None:
    here = f"{__name__}."
    chain(FAILOVER, {"using": ["a", "inner"]}, a={"BACKEND": f"{here}Closed"})
    assert message().send() == 1
    # How far it came is not known: nobody is to get the mail twice.
    chain(FAILOVER, {"using": ["a", "inner"]}, a={"BACKEND": f"{here}Foreign"})
    with pytest.raises(OSError, match="lost on the way"):
        message().send()
    assert len(smtpd.messages) == 1


def test_failover_needs_two(chain: Chain) -> None:
    chain(FAILOVER, {"using": "inner"})
    with pytest.raises(ImproperlyConfigured, match="at least 2 mailers"):
        message().send()


# Logging.


def test_each_message_is_logged(
    chain: Chain, smtpd: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mailbridge.messages")
    smtpd.refuse("bob@example.com")
    chain(LOG, {"using": "inner"})
    message().send()
    with pytest.raises(RecipientsRefused):
        message("bob@example.com").send()
    good, bad = [r for r in caplog.records if r.name == "mailbridge.messages"]
    assert "1 accepted" in good.getMessage()
    assert "1 refused" in bad.getMessage()
    assert (good.recipients, good.subject) == (["ida@example.com"], "subject")  # type: ignore[attr-defined]
    assert good.mailer == "inner"  # type: ignore[attr-defined]
    assert "text" not in good.getMessage()


def test_logged_and_not_sent(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mailbridge.messages")
    chain(LOG, {"content": True, "level": "debug"})
    one = message()
    assert one.send() == 1
    (record,) = [r for r in caplog.records if r.name == "mailbridge.messages"]
    assert record.levelno == logging.DEBUG
    assert "not sent" in record.getMessage()
    assert "Subject: subject" in record.getMessage()
    assert one.delivery_report.not_attempted == ("ida@example.com",)  # type: ignore[attr-defined]
    assert found() == []
    assert found(deploy=True) == ["W012"]


@pytest.mark.parametrize("options", [{"level": "loud"}, {"content": "perhaps"}])
def test_wrong_options_of_the_log(chain: Chain, options: dict[str, Any]) -> None:
    chain(LOG, {"using": "inner", **options})
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        message().send()


# What they have in common.


def test_checks_look_through_them(chain: Chain) -> None:
    inner = {"BACKEND": BACKEND, "OPTIONS": {"host": "mail.example.org", "tsl": "starttls"}}
    chain(REDIRECT, {"using": "inner", "to": "qa@example.org"}, inner=inner)
    assert found() == ["E001"]
    assert found(deploy=True) == ["E001", "W012"]


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
@pytest.mark.parametrize(
    ("default", "lost"),
    [
        (entry(LOG, "loud"), True),
        (entry(LOG, "loud", fail_silently=True), False),
        (entry(FAILOVER, ["silent", "silent"]), False),
        (entry(FAILOVER, ["silent", "loud"]), True),
    ],
)
def test_an_error_page_that_would_be_lost_behind_them(default: Any, lost: bool) -> None:
    mailers = {
        "default": default,
        "loud": {"BACKEND": BACKEND, "OPTIONS": OURS},
        "silent": {"BACKEND": BACKEND, "OPTIONS": {**OURS, "fail_silently": True}},
    }
    middleware = ["django.middleware.common.BrokenLinkEmailsMiddleware"]
    with override_settings(MANAGERS=MANAGERS, MIDDLEWARE=middleware, MAILERS=mailers):
        assert found() == (["W002"] if lost else [])


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
@pytest.mark.parametrize("cls", [redirect, log, failover, of_settings])
def test_what_django_expects_of_a_backend(cls: Any, chain: Chain) -> None:
    chain(BACKEND, OURS)
    options = {
        redirect: {"using": "inner", "to": "qa@example.org"},
        failover: {"using": ["inner", "default"]},
    }.get(cls, {"using": "inner"})
    backend = cls.EmailBackend(alias="news", **options)
    assert isinstance(backend, BaseEmailBackend)
    assert backend.alias == "news"
    assert backend.cacheable
    with pytest.raises(ImproperlyConfigured, match="Unknown options 'x'"):
        cls.EmailBackend(alias="news", **options, x=1)


@pytest.mark.skipif(django.VERSION >= (6, 1), reason="by MAILERS on Django 6.1")
def test_another_mailer_than_the_default(chain: Chain, smtpd: ScriptedServer) -> None:
    chain(REDIRECT, {"using": "inner", "to": "qa@example.org"})
    connection = mail.get_connection(using="inner")
    message(connection=connection).send()
    assert smtpd.messages[0].envelope.recipients == ("ida@example.com",)


def test_mailers_of_before_must_be_dictionaries() -> None:
    with (
        override_settings(MAILBRIDGE_MAILERS=["default"]),
        pytest.raises(ImproperlyConfigured, match="MAILBRIDGE_MAILERS must be a dictionary"),
    ):
        of_settings.EmailBackend()
