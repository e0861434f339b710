"""Django 6.1 has MAILERS. This is for those before it, which have EMAIL_BACKEND."""

from __future__ import annotations

from typing import Any

from .wrapper import Wrapper


class EmailBackend(Wrapper):
    """Sends by ``MAILBRIDGE_MAILERS["default"]``, or by the mailer that the argument names.

    ``EMAIL_BACKEND = "mailbridge_django.backends.mailers.EmailBackend"``; MAILBRIDGE_MAILERS is
    what MAILERS is on Django 6.1. ``get_connection(using="bulk")`` is another of its mailers.
    """

    def configure(self, given: dict[str, Any]) -> None:
        """Take the mailer "default" where no other is named."""
        super().configure({"using": "default", **given})
