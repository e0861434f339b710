"""The extra "django": a mail of Django's through the backend."""

import importlib

import django
from django.conf import settings

from mailbridge.testing import ScriptedServer

with ScriptedServer() as smtpd:
    mailer = {"BACKEND": "mailbridge_django.EmailBackend", "OPTIONS": {"url": smtpd.url}}
    if django.VERSION >= (6, 1):
        settings.configure(MAILERS={"default": mailer})
    else:
        settings.configure(EMAIL_BACKEND=mailer["BACKEND"], MAILBRIDGE=mailer["OPTIONS"])
    django.setup()

    from django.core.mail import EmailMessage

    message = EmailMessage("Hi", "Hi.", "me@example.org", ["ada@example.org"])
    assert message.send() == 1
    assert message.delivery_report.accepted == ("ada@example.org",)
    assert smtpd.messages[0].message["Subject"] == "Hi"

    for module in ("checks", "preview.views", "signals", "testing"):
        importlib.import_module(f"mailbridge_django.{module}")
