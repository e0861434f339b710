"""An application with mail for each test, and a server for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from mailbridge import close_pools
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_flask import Mail, Message

MakeApp = Callable[..., Flask]


@pytest.fixture(autouse=True)
def _pools() -> Iterator[None]:
    """No test meets a connection of another's."""
    yield
    close_pools()


@pytest.fixture(scope="session")
def ca() -> Iterator[TestCA]:
    with TestCA() as ca:
        yield ca


@pytest.fixture
def make_app(smtpd: ScriptedServer) -> MakeApp:
    """A factory of applications that send to `smtpd` unless told otherwise."""

    def make(**config: Any) -> Flask:
        app = Flask("site")
        app.config.update(
            MAIL_SERVER=smtpd.host,
            MAIL_PORT=smtpd.port,
            MAIL_DEFAULT_SENDER="site@example.org",
            MAIL_TIMEOUT=5,
        )
        app.config.update(config)
        Mail(app)
        return app

    return make


@pytest.fixture
def app(make_app: MakeApp) -> Iterator[Flask]:
    app = make_app()
    with app.app_context():
        yield app


@pytest.fixture
def mail(app: Flask) -> Mail:
    return Mail()


@pytest.fixture
def message(app: Flask) -> Message:
    return Message("Hello", recipients=["a@example.com", "b@example.com"], body="Good day.\n")
