"""Mail: the extension. Its state is per application, in ``app.extensions["mail"]``."""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask import Flask, current_app, has_app_context

from mailbridge import DeliveryReport

from .cli import mail_commands
from .connection import Connection
from .current import current
from .mailers import DEFAULT
from .message import Message, Recipient
from .signals import recorded
from .state import MailState


class Mail:
    """The extension: ``mail = Mail(app)``, or ``mail = Mail()`` and ``mail.init_app(app)``.

    Holds no application. Everything but `init_app` is for the current application and raises
    RuntimeError where there is none, or where `init_app` was not called for it.
    """

    #: The mailer that is used: "default", or one of MAIL_MAILERS.
    mailer: str = DEFAULT

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> MailState:
        """Read the MAIL_* names in ``app.config`` and keep the result in ``app.extensions``.

        `app` may be a `quart.Quart`, to `asend` from it. A Flask application gets the commands
        ``flask mail check`` and ``flask mail send``.

        Returns the state. Raises mailbridge.OptionError (a ValueError) that names the setting.
        """
        state = MailState.from_settings(app.config, app, debug=app.debug)
        app.extensions["mail"] = state
        if isinstance(app, Flask):
            # An application's own commands of that name come first.
            app.cli.commands.setdefault("mail", mail_commands)
        return state

    def init_mail(
        self, config: Mapping[str, Any], debug: bool | int = False, testing: bool = False
    ) -> MailState:
        """A state for these settings that belongs to the current application, as in Flask-Mail.

        It is not put anywhere. `testing` is what TESTING is if `config` does not say.
        """
        app: Flask | None = None
        if has_app_context():
            app = current_app._get_current_object()  # type: ignore[attr-defined]
        settings = config if "TESTING" in config else {**config, "TESTING": testing}
        return MailState.from_settings(settings, app, debug=bool(debug))

    @property
    def state(self) -> MailState:
        """The state of the mailer in the current application. RuntimeError where there is none."""
        state = current().extensions.get("mail")
        if not isinstance(state, MailState):
            raise RuntimeError(
                "the current application has no mail: call mail.init_app(app) when you create it"
            )
        return state if self.mailer == DEFAULT else state.using(self.mailer)

    def using(self, name: str) -> Mail:
        """The same by another mailer: ``mail.using("bulk").send(message)``.

        May be called without an application. An unknown name is an OptionError (a ValueError)
        when it is used.
        """
        other = copy.copy(self)
        other.mailer = name
        return other

    def send(self, message: Message, envelope_from: Recipient | None = None) -> DeliveryReport:
        """Send `message` and return the report: see `MailState.send`."""
        return self.state.send(message, envelope_from)

    def send_message(self, *args: Any, **kwargs: Any) -> DeliveryReport:
        """Send ``Message(*args, **kwargs)``. Returns and raises what `send` does."""
        return self.state.send_message(*args, **kwargs)

    def send_many(self, messages: Iterable[Message]) -> Generator[DeliveryReport]:
        """Send messages as they come, and yield a report for each: see `MailState.send_many`."""
        return self.state.send_many(messages)

    async def asend(
        self, message: Message, envelope_from: Recipient | None = None
    ) -> DeliveryReport:
        """`send` from an async view, of Flask or Quart: see `MailState.asend`."""
        return await self.state.asend(message, envelope_from)

    def connect(self) -> Connection:
        """A connection for several messages: ``with mail.connect() as connection: ...``."""
        return self.state.connect()

    @contextmanager
    def record_messages(self) -> Iterator[list[Message]]:
        """A list to which each message is added that any application dispatches; for tests."""
        with recorded() as outbox:
            yield outbox

    def __getattr__(self, name: str) -> Any:
        # Flask-Mail reads its settings off the extension, and None for everything else.
        if isinstance(getattr(MailState, name, None), property):
            return getattr(self.state, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
