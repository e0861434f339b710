"""``manage.py mailbridge check``: try the way to the mail server, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from mailbridge import InvalidInput
from mailbridge.findings import render_all
from mailbridge.probe import probe
from mailbridge_django import mailers
from mailbridge_django.backends.smtp import EmailBackend
from mailbridge_django.backends.wrapper import Wrapper


class Command(BaseCommand):
    """Exit status 0 if the server takes mail from here, 1 if a step failed."""

    help = "Try the way to the mail server, step by step. Sends nothing."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """One command so far, `check`."""
        parser.add_argument("action", choices=["check"])
        parser.add_argument("--using", metavar="ALIAS", help="the alias of a mailer")
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
            backends = senders(mailer(options["using"]))
            relays = [relay for backend in backends for relay in backend.all_relays()]
            findings = [probe(relay, sender=sender, rcpt=options["rcpt"]) for relay in relays]
        except (InvalidInput, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(render_all(findings, as_json=options["json"]))
        for failed in filter(None, [each.failed for each in findings]):
            raise CommandError(f"{failed.name}: {failed.text}")


def senders(backend: Any) -> list[EmailBackend]:
    """The backends of mailbridge that a mailer sends by: itself, or those that it names.

    Raises CommandError if there is none.
    """
    found = [each for each in _all(backend) if isinstance(each, EmailBackend)]
    if not found:
        kind = type(backend)
        what = "sends to no server" if isinstance(backend, Wrapper) else "is none of mailbridge's"
        raise CommandError(
            f"The backend {kind.__module__}.{kind.__qualname__} {what}.", returncode=2
        )
    return found


def _all(backend: Any) -> Iterator[Any]:
    yield backend
    for inner in backend.inner if isinstance(backend, Wrapper) else ():
        yield from _all(inner)


def mailer(alias: str | None) -> Any:
    """The backend of an alias, or the one of the site. Raises ImproperlyConfigured."""
    if alias is not None:
        return mailers.backend(alias)
    return mail.mailers["default"] if hasattr(mail, "mailers") else mail.get_connection()
