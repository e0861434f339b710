"""Settings of the site. What concerns mail is at the top; there is no database."""

import os

import django

HOST = os.environ.get("EMAIL_HOST", "localhost")
PORT = int(os.environ.get("EMAIL_PORT", "1025"))
# What is sent is kept as well, to be looked at under /mail/.
OUTBOX = os.environ.get("MAIL_OUTBOX", ".mailbox")

if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "mailbridge_django.backends.outbox.EmailBackend",
            "OPTIONS": {"path": OUTBOX, "using": "relay"},
        },
        "relay": {
            "BACKEND": "mailbridge_django.EmailBackend",
            "OPTIONS": {"host": HOST, "port": PORT, "connect_timeout": 5},
        },
    }
else:  # Django 5.2 and 6.0
    EMAIL_BACKEND = "mailbridge_django.backends.outbox.EmailBackend"
    MAILBRIDGE_OUTBOX = {"path": OUTBOX, "using": "mailbridge_django.EmailBackend"}
    EMAIL_HOST = HOST
    EMAIL_PORT = PORT
    MAILBRIDGE = {"connect_timeout": 5}

DEFAULT_FROM_EMAIL = "website@example.org"
CONTACT_EMAIL = "desk@example.org"
SUBSCRIBERS = [
    "ada@example.org",
    "gone@example.net",
    "grace@example.com",
    "busy@example.com",
]

SECRET_KEY = "only for the demo"
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "example_project.django_site.urls"
INSTALLED_APPS = [
    "django.contrib.sessions",
    "mailbridge_django",
    "example_project.django_site",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
# What became of a mail is carried to the next page in a signed cookie.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"example_project": {"handlers": ["console"]}},
}
