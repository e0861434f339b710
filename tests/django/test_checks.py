"""``manage.py check``: each finding, and silence where all is well."""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.checks import registry, run_checks
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.utils.log import AdminEmailHandler

from mailbridge import Timeouts
from mailbridge.testing import TestCA
from tests.django.conftest import BACKEND
from tests.django_settings import ADMINS, MANAGERS

Configure = Callable[..., None]

needs_mailers = pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS came with Django 6.1")
GOOD = {"host": "mail.example.org", "port": 587, "use_tls": True}
LOGIN = {"username": "u", "password": "p"}


@pytest.fixture(autouse=True)
def _nobody_to_tell() -> Iterator[None]:
    """Without admins, since Django's own logging has a handler that tells them."""
    with override_settings(ADMINS=[], MANAGERS=[]):
        yield


def test_the_page_has_a_row_for_each() -> None:
    root = Path(__file__).parents[2]
    modules = [root / "mailbridge_django" / name for name in ("checks.py", "preview/checks.py")]
    issued = {
        id for path in modules for id in re.findall(r'id="(mailbridge\.\w+)"', path.read_text())
    }
    page = (root / "docs/reference/checks.md").read_text("utf-8")
    assert re.findall(r"^\| `(mailbridge\.\w+)`", page, re.MULTILINE) == sorted(issued)


def found(*, deploy: bool = False) -> list[str]:
    """The ids of our findings. Each has a hint."""
    messages = run_checks(tags=["mail"], include_deployment_checks=deploy)
    ours = [each for each in messages if str(each.id).startswith("mailbridge.")]
    assert all(each.hint for each in ours)
    return [str(each.id).removeprefix("mailbridge.") for each in ours]


def test_they_are_registered() -> None:
    assert "mail" in registry.registry.tags_available()


def test_a_good_configuration(site: Configure) -> None:
    site(**GOOD, **LOGIN)
    assert found() == []
    assert found(deploy=True) == []


def test_the_backend_of_somebody_else() -> None:
    with override_settings(EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend"):
        assert found(deploy=True) == []


@pytest.mark.parametrize("name", ["console", "dummy", "filebased", "locmem"])
def test_mail_that_is_sent_to_nobody(name: str) -> None:
    backend = f"django.core.mail.backends.{name}.EmailBackend"
    with override_settings(EMAIL_BACKEND=backend):
        assert found() == []
        assert found(deploy=True) == ["W012"]


@needs_mailers
def test_another_mailer_may_send_to_nobody() -> None:
    console = {"BACKEND": "django.core.mail.backends.console.EmailBackend"}
    good = {"BACKEND": BACKEND, "OPTIONS": GOOD}
    with override_settings(MAILERS={"default": good, "seen": console}):
        assert found(deploy=True) == []
    with override_settings(MAILERS={"default": console, "sent": good}):
        assert found(deploy=True) == ["W012"]


@pytest.mark.parametrize(
    "options",
    [{"tsl": "starttls"}, {"ca_file": "/nowhere/ca.pem"}, {"timeout": "soon"}, {"username": "a\0"}],
)
def test_a_wrong_option(site: Configure, options: dict[str, Any]) -> None:
    site(**{**GOOD, **LOGIN, **options})
    assert found() == ["E001"]


def test_two_kinds_of_tls(site: Configure) -> None:
    site(**GOOD, use_ssl=True)
    assert found() == ["E002"]


@needs_mailers
@pytest.mark.parametrize("options", [{}, {"host": ""}])
def test_no_host(options: dict[str, Any]) -> None:
    with override_settings(MAILERS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
        assert found() == ["E003"]


def test_no_host_in_settings() -> None:
    with override_settings(EMAIL_BACKEND=BACKEND, EMAIL_HOST=""):
        assert found() == ["E003"]
        with override_settings(MAILBRIDGE={"url": "smtp://mail.example.org"}):
            assert found() == []
    with override_settings(EMAIL_BACKEND=BACKEND, MAILBRIDGE="smtp://mail.example.org"):
        assert found() == ["E001"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"use_tls": False}, ["W001"]),
        ({"tls_verify": False}, ["W001"]),
        ({"use_tls": False, "tls": "opportunistic"}, ["W001"]),
        ({"use_tls": False, "host": "127.0.0.1"}, []),
        ({"port": 465}, ["W003"]),
        ({"use_tls": False, "use_ssl": True}, ["W003"]),
        ({"use_tls": False, "use_ssl": True, "port": 465}, []),
        ({"port": 25}, ["W003"]),
        ({"timeouts": Timeouts(reply=None)}, ["W007"]),
        ({"relays": ["smtp://u:p@other.example.org?tls=none"]}, ["W001"]),
    ],
)
def test_what_should_not_be_so(site: Configure, options: dict[str, Any], ids: list[str]) -> None:
    site(**{**GOOD, **LOGIN, **options})
    assert found() == ids


def test_verification_in_production(site: Configure, ca: TestCA) -> None:
    site(**GOOD, tls_verify=False)
    assert found() == []
    assert found(deploy=True) == ["W004"]
    site(**GOOD, ca_file=ca.ca_file)
    assert found(deploy=True) == []


def test_senders_at_localhost(site: Configure) -> None:
    site(**GOOD)
    with override_settings(DEFAULT_FROM_EMAIL="webmaster@localhost"):
        assert found() == []
        assert found(deploy=True) == ["W006"]
    with override_settings(SERVER_EMAIL="Root <root@localhost>"):
        assert found(deploy=True) == ["W006"]


# Error pages.


@contextlib.contextmanager
def reporting(**arguments: Any) -> Iterator[None]:
    handler = AdminEmailHandler(reporter_class="tests.django.support.Reporter", **arguments)
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    try:
        with override_settings(ADMINS=ADMINS):
            yield
    finally:
        logger.removeHandler(handler)


def mailers(**options: Any) -> dict[str, Any]:
    # Port 9 is discard, where nobody listens.
    good = {"BACKEND": BACKEND, "OPTIONS": {"host": "127.0.0.1", "port": 9, **options}}
    return {"default": good}


@needs_mailers
def test_an_error_page_that_would_be_lost() -> None:
    with override_settings(MAILERS=mailers()), reporting():
        assert found() == ["W002"]


@needs_mailers
def test_an_error_page_that_is_safe() -> None:
    with override_settings(MAILERS=mailers(fail_silently=True)), reporting():
        assert found() == []
    with override_settings(MAILERS=mailers()), reporting(), override_settings(ADMINS=[]):
        assert found() == []


@needs_mailers
def test_broken_links() -> None:
    middleware = ["django.middleware.common.BrokenLinkEmailsMiddleware"]
    with override_settings(MAILERS=mailers(), MIDDLEWARE=middleware, MANAGERS=MANAGERS):
        assert found() == ["W002"]


def test_without_mailers_django_takes_care_of_it() -> None:
    with override_settings(EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1"), reporting():
        assert found() == []


def fails(request: Any) -> Any:
    raise RuntimeError("a bug in a view")


class urls:
    from django.urls import path as _path

    urlpatterns = (_path("", fails),)


def page() -> str:
    """The status of a page whose view fails, through the whole of Django."""
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": None,
        "wsgi.url_scheme": "http",
    }
    response = get_wsgi_application()(environ, lambda status, *rest: statuses.append(status))
    response.close()
    return statuses[0]


def test_the_500_page_is_served_though_mail_is_down() -> None:
    if django.VERSION >= (6, 1):
        change = override_settings(MAILERS=mailers(fail_silently=True))
    else:
        change = override_settings(EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=9)
    with change, override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"]), reporting():
        assert page() == "500 Internal Server Error"


@needs_mailers
def test_the_configuration_that_is_warned_of_loses_it() -> None:
    with override_settings(MAILERS=mailers(), ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"]), reporting():
        assert found() == ["W002"]
        with pytest.raises(ConnectionRefusedError):
            page()
