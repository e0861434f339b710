"""The base of backends that send by another: by the mailer that their option `using` names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils.functional import cached_property

from .. import conf, exceptions, mailers


class Wrapper(BaseEmailBackend):
    """Sends by the mailer `using`: an alias in MAILERS (MAILBRIDGE_MAILERS before Django 6.1), or
    the dotted path of a backend. Subclasses say in `send_messages` what they do besides.

    Raises ImproperlyConfigured (InvalidMailer on Django 6.1) for an option that is unknown, for
    an alias that there is not, and for one that leads back here.
    """

    cacheable = True
    #: The options besides `using`.
    OPTIONS: ClassVar[tuple[str, ...]] = ()
    #: How many mailers `using` may name.
    AT_LEAST: ClassVar[int] = 1
    AT_MOST: ClassVar[int] = 1

    def __init__(self, fail_silently: bool = False, **kwargs: Any) -> None:
        names = ("using", *self.OPTIONS)
        own = {name: kwargs.pop(name) for name in names if name in kwargs}
        self.alias: str | None = kwargs.get("alias")
        conf.refuse_unknown(kwargs, names)
        super().__init__(**kwargs)
        self.alias = kwargs.get("alias")
        self.fail_silently = fail_silently
        try:
            self.configure(own)
        except ImproperlyConfigured:
            raise
        except ValueError as error:
            raise conf.misconfigured(str(error), self.alias) from error

    def configure(self, given: dict[str, Any]) -> None:
        """Take in the options. Raises ValueError, or ImproperlyConfigured."""
        self.using = mailers.named(given.get("using"))
        wrong = None
        if not self.AT_LEAST <= len(self.using) <= self.AT_MOST:
            number = "one mailer" if self.AT_MOST == 1 else f"at least {self.AT_LEAST} mailers"
            wrong = f"'using' must name {number} to send by, not {given.get('using')!r}"
        wrong = wrong or mailers.problem(self.alias, self.using)
        if wrong is not None:
            raise conf.misconfigured(wrong, self.alias)

    @cached_property
    def inner(self) -> tuple[Any, ...]:
        """The backends of the mailers that `using` names."""
        return tuple(mailers.backend(name, fail_silently=self.fail_silently) for name in self.using)

    def open(self) -> bool | None:
        """Open the first backend that this one sends by; returns and raises what that does."""
        return self.inner[0].open() if self.inner else None

    def close(self) -> None:
        """Close the backends that this one sends by."""
        for backend in self.inner:
            backend.close()

    def send_messages(self, email_messages: Iterable[EmailMessage]) -> int:
        """Send by the mailer `using`; returns and raises what that does."""
        messages = list(email_messages or ())
        return int(self.inner[0].send_messages(messages) or 0) if messages else 0


def errors_of(error: Exception) -> tuple[Exception, ...]:
    """The errors of the single messages in one that `send_messages` has raised."""
    return tuple(error.errors) if isinstance(error, exceptions.BatchError) else (error,)
