"""``manage.py mailbridge check``: try the way to the mail server, step by step."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mailbridge import InvalidInput
from mailbridge.findings import render_all
from mailbridge.probe import probe
from mailbridge_django.backends.smtp import EmailBackend


class Command(BaseCommand):
    """Exit status 0 if the server takes mail from here, 1 if a step failed."""

    help = "Try the way to the mail server, step by step. Sends nothing."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """One command so far, `check`."""
        parser.add_argument("action", choices=["check"])
        parser.add_argument("--using", metavar="ALIAS", help="an alias of MAILERS")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--sender", metavar="ADDRESS", help="default: DEFAULT_FROM_EMAIL")
        parser.add_argument(
            "--rcpt",
            action="append",
            default=[],
            metavar="ADDRESS",
            help="offer this recipient to the server, and send nothing; may be repeated",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what was found. Raises CommandError for a mailer that is not of mailbridge."""
        sender = options["sender"] or settings.DEFAULT_FROM_EMAIL
        try:
            relays = mailer(options["using"]).all_relays()
            findings = [probe(relay, sender=sender, rcpt=options["rcpt"]) for relay in relays]
        except (InvalidInput, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(render_all(findings, as_json=options["json"]))
        for failed in filter(None, [each.failed for each in findings]):
            raise CommandError(f"{failed.name}: {failed.text}")


def mailer(alias: str | None) -> EmailBackend:
    """The backend of an alias, or the one of the site. Raises CommandError if it is not ours."""
    if hasattr(mail, "mailers"):
        backend = mail.mailers[alias or "default"]
    elif alias is None:
        backend = mail.get_connection()
    else:
        raise CommandError("--using needs MAILERS, which came with Django 6.1", returncode=2)
    if not isinstance(backend, EmailBackend):
        kind = type(backend)
        raise CommandError(
            f"{kind.__module__}.{kind.__qualname__} is no backend of mailbridge's", returncode=2
        )
    return backend
