"""A site with the mailbox on it, once in Django and once in Flask, served on loopback."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import django
from django.core.mail import EmailMultiAlternatives
from django.core.wsgi import get_wsgi_application
from django.test import override_settings
from django.urls import include, path
from flask import Flask
from werkzeug.serving import make_server

from mailbridge.testing import ScriptedServer
from mailbridge_flask import Attachment, Mail, Message
from mailbridge_flask.preview import blueprint
from tests.serving import serving

File = tuple[str, str, bytes]
Application = Callable[[dict[str, Any], Callable[..., Any]], Any]
urlpatterns = [path("mail/", include("mailbridge_django.preview.urls"))]


class Site(ABC):
    """An application in debug mode whose mail is captured and sent; `asked` has each path."""

    def __init__(self, folder: Path, smtpd: ScriptedServer) -> None:
        self.url, self.asked = "", list[str]()
        self.folder, self.smtpd = folder, smtpd

    @contextmanager
    def served(self) -> Iterator[None]:
        """Answer requests at `url`."""
        application = self.application()

        def noting(environ: dict[str, Any], start_response: Any) -> Any:
            self.asked.append(environ["PATH_INFO"])
            return application(environ, start_response)

        with (
            self.settings(),
            make_server("127.0.0.1", 0, noting, threaded=True) as server,
            serving(server),
        ):
            self.url = f"http://127.0.0.1:{server.server_port}/"
            yield

    @abstractmethod
    def application(self) -> Application: ...
    @abstractmethod
    def settings(self) -> AbstractContextManager[None]: ...

    @abstractmethod
    def send(
        self, subject: str, body: str = "", html: str | None = None, *,
        to: str = "b@example.org", files: tuple[File, ...] = (),
    ) -> None: ...  # fmt: skip


class FlaskSite(Site):
    """The blueprint."""

    def application(self) -> Application:
        self.app = Flask(__name__, instance_path=str(self.folder))
        self.app.debug = True
        self.app.config.update(
            MAIL_OUTBOX=True,
            MAIL_OUTBOX_SEND=True,
            MAIL_SERVER=self.smtpd.host,
            MAIL_PORT=self.smtpd.port,
            MAIL_ON_REFUSED="report",
            MAIL_DEFAULT_SENDER="a@example.org",
        )
        self.mail = Mail(self.app)
        self.app.register_blueprint(blueprint, url_prefix="/mail")
        return self.app

    @contextmanager
    def settings(self) -> Iterator[None]:
        yield

    def send(
        self, subject: str, body: str = "", html: str | None = None, *,
        to: str = "b@example.org", files: tuple[File, ...] = (),
    ) -> None:  # fmt: skip
        message = Message(subject, recipients=to.split(", "), body=body, html=html)
        message.attachments = [Attachment(*file) for file in files]
        with self.app.app_context():
            self.mail.send(message)


class DjangoSite(Site):
    """The URLs, behind the middleware of every new project."""

    def application(self) -> Application:
        with self.settings():
            return get_wsgi_application()

    @contextmanager
    def settings(self) -> Iterator[None]:
        relay = {"host": self.smtpd.host, "port": self.smtpd.port, "on_refused": "report"}
        outbox = {"path": str(self.folder / "box"), "using": "relay"}
        backend = "mailbridge_django.backends.outbox.EmailBackend"
        mailers = {"relay": {"BACKEND": "mailbridge_django.EmailBackend", "OPTIONS": relay}}
        given: dict[str, Any] = {
            "EMAIL_BACKEND": backend,
            "MAILBRIDGE_OUTBOX": outbox,
            "MAILBRIDGE_MAILERS": mailers,
        }
        if django.VERSION >= (6, 1):
            given = {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": outbox}, **mailers}}
        security, middleware = "django.middleware.security", "django.middleware"
        with override_settings(
            ROOT_URLCONF=__name__, DEBUG=True, USE_I18N=False,
            MIDDLEWARE=[
                f"{security}.SecurityMiddleware",
                f"{middleware}.common.CommonMiddleware",
                f"{middleware}.csrf.CsrfViewMiddleware",
                f"{middleware}.clickjacking.XFrameOptionsMiddleware",
            ],
            **given,
        ):  # fmt: skip
            yield

    def send(
        self, subject: str, body: str = "", html: str | None = None, *,
        to: str = "b@example.org", files: tuple[File, ...] = (),
    ) -> None:  # fmt: skip
        message = EmailMultiAlternatives(subject, body, "a@example.org", to.split(", "))
        if html is not None:
            message.attach_alternative(html, "text/html")
        for name, kind, content in files:
            message.attach(name, content, kind)
        message.send()


SITES: dict[str, type[Site]] = {"flask": FlaskSite, "django": DjangoSite}
