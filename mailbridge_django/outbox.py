"""Which outbox the settings name: ``MAILBRIDGE_OUTBOX``, or OPTIONS of the mailer that captures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from mailbridge.outbox import MaildirOutbox
from mailbridge.outbox.memory import MAX_MESSAGES

BACKEND = "mailbridge_django.backends.outbox.EmailBackend"
OPTIONS = ("path", "max_messages", "using")


def options(given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of the outbox: those given, else those in the settings.

    Raises ImproperlyConfigured for a name that is none of OPTIONS.
    """
    found = dict(given or _of_mailer() or getattr(settings, "MAILBRIDGE_OUTBOX", None) or {})
    unknown = [name for name in found if name not in OPTIONS]
    if unknown:
        raise ImproperlyConfigured(
            f"Unknown options of the outbox: {', '.join(unknown)}. Known are: {', '.join(OPTIONS)}."
        )
    return found


def outbox_of(found: Mapping[str, Any]) -> MaildirOutbox:
    """The outbox of these options: `path` is BASE_DIR / ".mailbox" unless given."""
    default = Path(getattr(settings, "BASE_DIR", None) or Path.cwd()) / ".mailbox"
    return _outbox(
        str(found.get("path") or default), int(found.get("max_messages") or MAX_MESSAGES)
    )


@cache
def _outbox(path: str, max_messages: int) -> MaildirOutbox:
    return MaildirOutbox(path, max_messages)


def _of_mailer() -> dict[str, Any] | None:
    """OPTIONS of the first mailer that captures (Django 6.1)."""
    for mailer in (getattr(settings, "MAILERS", None) or {}).values():
        if mailer.get("BACKEND") == BACKEND:
            return dict(mailer.get("OPTIONS") or {})
    return None
