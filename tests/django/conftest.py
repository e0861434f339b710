"""A Django site for these tests, and fixtures over a scripted server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest

from mailbridge import close_pools
from mailbridge.testing import ScriptedServer, TestCA
from tests.django_settings import configure

configure()

from django.test import override_settings  # noqa: E402 - settings come first

from mailbridge_django import EmailBackend  # noqa: E402

BACKEND = "mailbridge_django.EmailBackend"

MODES = ["legacy", "mailers"] if django.VERSION >= (6, 1) else ["legacy"]

LEGACY = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
}


@pytest.fixture(autouse=True)
def _pools() -> Iterator[None]:
    """No test meets a connection of another's."""
    yield
    close_pools()


@pytest.fixture(scope="session")
def ca() -> Iterator[TestCA]:
    with TestCA() as authority:
        yield authority


@pytest.fixture
def backend(smtpd: ScriptedServer) -> Iterator[Callable[..., EmailBackend]]:
    """Makes backends for `smtpd`; closes them in the end."""
    made: list[EmailBackend] = []

    def make(cls: type[EmailBackend] = EmailBackend, **options: Any) -> EmailBackend:
        options = {"alias": "test", "host": smtpd.host, "port": smtpd.port, **options}
        made.append(cls(**options))
        return made[-1]

    yield make
    for each in made:
        each.fail_silently = True
        each.close()


@pytest.fixture(params=MODES)
def site(request: pytest.FixtureRequest, smtpd: ScriptedServer) -> Iterator[Callable[..., None]]:
    """Configures Django to send through `smtpd`, in the way of old or by MAILERS."""
    overrides: list[override_settings] = []

    def configure(**options: Any) -> None:
        options = {"host": smtpd.host, "port": smtpd.port, **options}
        if request.param == "mailers":
            change = override_settings(
                MAILERS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}
            )
        else:
            own = {name: options.pop(name) for name in [*options] if name not in LEGACY}
            change = override_settings(
                EMAIL_BACKEND=BACKEND,
                MAILBRIDGE=own,
                **{LEGACY[name]: value for name, value in options.items()},
            )
        change.enable()
        overrides.append(change)

    configure()
    yield configure
    for change in reversed(overrides):
        change.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Old settings are what half of these tests are about.
    ignored = pytest.mark.filterwarnings(
        r"ignore:The EMAIL_\w+ setting is deprecated:PendingDeprecationWarning"
    )
    for item in items:
        if "django" in item.path.parts:
            item.add_marker(ignored)
