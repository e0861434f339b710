"""``manage.py newsletter``: one message to each subscriber, and what became of each."""

from contextlib import suppress

import django
from django.conf import settings
from django.core import mail
from django.core.management.base import BaseCommand, CommandError

from mailbridge_django.exceptions import MailError


class Command(BaseCommand):
    help = "Send the newsletter to every subscriber and print a line for each."

    def add_arguments(self, parser):
        parser.add_argument("--subject", default="News of this month")

    def handle(self, *args, subject, **options):
        messages = [
            mail.EmailMessage(subject, "It was a quiet month.", to=[address])
            for address in settings.SUBSCRIBERS
        ]
        with suppress(MailError):  # every message is tried, and then has its report
            backend().send_messages(messages)
        for message in messages:
            for result in message.delivery_report:
                said = result.reply or result.reason or ""
                self.stdout.write(f"{result.state:<14} {result.address:<20} {said}")
        missed = [message for message in messages if not message.delivery_report.accepted]
        if missed:
            raise CommandError(f"{len(missed)} of {len(messages)} messages did not arrive")


def backend():
    """The default mailer: every message goes over one connection."""
    return mail.mailers.default if django.VERSION >= (6, 1) else mail.get_connection()
