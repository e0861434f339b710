"""The mailbox page in Django: ``path("mail/", include("mailbridge_django.preview.urls"))``."""

from mailbridge.preview import preview

__all__ = ["preview"]
