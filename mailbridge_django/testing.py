"""What the pytest plugin of mailbridge does to Django: have it send, although this is a test.

Django's test runner and pytest-django put an in-memory backend in place of whatever is configured.
"""

from __future__ import annotations

import contextlib
import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage
from django.test.utils import _TestState, override_settings
from django.utils.module_loading import import_string

from mailbridge import DeliveryReport
from mailbridge.testing.site import OF_THE_SERVER

from .backends.smtp import EmailBackend
from .outbox import BACKEND as OUTBOX
from .signals import post_send

BACKEND: Final = "mailbridge_django.EmailBackend"
LOCMEM: Final = "django.core.mail.backends.locmem.EmailBackend"
# What EMAIL_* say of the server is not true of another one.
_NEITHER_TLS_NOR_LOGIN: Final = {
    "use_tls": False,
    "use_ssl": False,
    **dict.fromkeys(("ssl_keyfile", "ssl_certfile", "username", "password"), ""),
}


@contextlib.contextmanager
def sending(options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Send through mailbridge while this lasts: by the project's options, or to another server.

    What arrives is in `django.core.mail.outbox`, too. Nothing happens where there are no settings.
    """
    if not (settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE")):
        yield
        return
    change = override_settings(**_settings(options))
    with warnings.catch_warnings():
        # Django 6.1 warns of EMAIL_BACKEND, which is not the test's doing.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        change.enable()
    post_send.connect(_into_outbox, dispatch_uid="mailbridge.testing")
    try:
        yield
    finally:
        post_send.disconnect(dispatch_uid="mailbridge.testing")
        change.disable()


def _settings(options: Mapping[str, Any] | None) -> dict[str, Any]:
    before = vars(_TestState.saved_data) if hasattr(_TestState, "saved_data") else {}
    if hasattr(settings, "MAILERS"):
        configured = before.get("mailers", {})
        mailers = {
            alias: configured.get(alias, mailer) if mailer.get("BACKEND") == LOCMEM else mailer
            for alias, mailer in settings.MAILERS.items()
        }
        return {"MAILERS": {alias: _mailer(m, options) for alias, m in mailers.items()}}
    now = settings.EMAIL_BACKEND
    backend = before.get("email_backend", now) if now == LOCMEM else now
    changed = {"EMAIL_BACKEND": backend if _is_ours(backend) else BACKEND}
    if options is not None:
        kept = _not_of_the_server(getattr(settings, "MAILBRIDGE", {}))
        changed["MAILBRIDGE"] = {**kept, **_NEITHER_TLS_NOR_LOGIN, **options}
    return changed


def _mailer(mailer: Mapping[str, Any], options: Mapping[str, Any] | None) -> dict[str, Any]:
    """An entry of MAILERS that sends through mailbridge."""
    if not _is_ours(mailer.get("BACKEND")):
        return {"BACKEND": BACKEND, "OPTIONS": dict(options or {"host": "localhost"})}
    given = mailer.get("OPTIONS") or {}
    kept = given if options is None else {**_not_of_the_server(given), **options}
    return {**mailer, "OPTIONS": kept}


def _not_of_the_server(options: Mapping[str, Any]) -> dict[str, Any]:
    dropped = OF_THE_SERVER | _NEITHER_TLS_NOR_LOGIN.keys()
    return {name: value for name, value in options.items() if name not in dropped}


def _is_ours(path: str | None) -> bool:
    """True for our backends, and for those that are derived from the one that sends."""
    if path is None or path == OUTBOX:
        return False
    if path.startswith("mailbridge_django."):
        return True
    backend = import_string(path)
    return isinstance(backend, type) and issubclass(backend, EmailBackend)


def _into_outbox(message: EmailMessage, status: DeliveryReport, **about: Any) -> None:
    """Put a message where Django's tests look for it."""
    if status.accepted and hasattr(mail, "outbox"):
        # Not a deep copy: in Django before 6.1 the backend hangs on it, with its lock.
        mail.outbox.append(copy.copy(message))
