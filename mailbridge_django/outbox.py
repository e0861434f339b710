"""Which outbox the settings name: ``MAILBRIDGE_OUTBOX``, or OPTIONS of the mailer that captures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from mailbridge.outbox import MaildirOutbox
from mailbridge.outbox.memory import MAX_MESSAGES

from . import settings

BACKEND = "mailbridge_django.backends.outbox.EmailBackend"
OPTIONS = ("path", "max_messages", "using")


def options(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of the outbox: those given, else those in the settings.

    Raises ImproperlyConfigured for a name that is none of OPTIONS.
    """
    found = dict(given or _of_mailer() or settings.outbox_options())
    unknown = [name for name in found if name not in OPTIONS]
    if unknown:
        raise ImproperlyConfigured(
            f"Unknown options of the outbox: {', '.join(unknown)}. Known are: {', '.join(OPTIONS)}."
        )
    return found


def outbox_of(found: Mapping[str, Any]) -> MaildirOutbox:
    """The outbox of these options: `path` is ".mailbox" unless given, and relative to BASE_DIR."""
    path = settings.base_dir() / (found.get("path") or ".mailbox")
    return _outbox(str(path), int(found.get("max_messages") or MAX_MESSAGES))


@cache
def _outbox(path: str, max_messages: int) -> MaildirOutbox:
    return MaildirOutbox(path, max_messages)


def _of_mailer() -> dict[str, Any] | None:
    """OPTIONS of the first mailer that captures."""
    for mailer in settings.mailers().values():
        if mailer.backend == BACKEND and mailer.alias is not None:
            return dict(mailer.options)
    return None
