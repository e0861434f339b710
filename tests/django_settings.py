"""The settings of the Django site that tests are in; there is one in a process."""

from __future__ import annotations

import django
from django.conf import settings

PAIRS = django.VERSION < (6, 0)
ADMINS = [("Admin", "admin@example.com")] if PAIRS else ["admin@example.com"]
MANAGERS = [("Manager", "manager@example.com")] if PAIRS else ["manager@example.com"]


def configure() -> None:
    """Configure Django, unless somebody did so before."""
    if settings.configured:
        return
    settings.configure(
        SECRET_KEY="for tests only",
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "mailbridge_django"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [
                        (
                            "django.template.loaders.locmem.Loader",
                            {
                                "subject.txt": "Password reset on {{ site_name }}",
                                "email.txt": "{{ protocol }}://{{ domain }}/{{ uid }}/{{ token }}",
                            },
                        )
                    ]
                },
            }
        ],
        ADMINS=ADMINS,
        MANAGERS=MANAGERS,
        SERVER_EMAIL="root@example.com",
        DEFAULT_FROM_EMAIL="webmaster@example.com",
        USE_TZ=True,
    )
    django.setup()
