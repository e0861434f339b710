"""``manage.py newsletter``: one message to each subscriber, and what became of each."""

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
        try:
            backend().send_messages(messages)
        except MailError as error:
            failure = error
        else:
            failure = None
        for message in messages:
            for result in message.delivery_report:
                self.stdout.write(f"{result.state:<14} {result.address:<20} {said(result)}")
        if failure is not None:
            raise CommandError(f"not everybody got it: {failure}")


def backend():
    """The default mailer: every message goes over one connection."""
    return mail.mailers.default if django.VERSION >= (6, 1) else mail.get_connection()


def said(result):
    return result.reply or result.reason or ""
