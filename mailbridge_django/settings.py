"""What the settings say about mail. No other module reads EMAIL_*, MAILERS or MAILBRIDGE*."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.module_loading import import_string


class Mailer(NamedTuple):
    """A mailer of the site. `alias` is None for the one of EMAIL_BACKEND."""

    alias: str | None
    backend: str
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The setting that it stands in."""
        return "EMAIL_BACKEND" if self.alias is None else f"{setting_of_mailers()}[{self.alias!r}]"


def setting_of(name: str) -> Any:
    """A setting of Django's, as `of_django` has it."""
    return getattr(of_django(), name)


def of_django() -> Any:
    """What has EMAIL_*, without the warning that Django 6.1 has for whoever reads it.

    It warns where EMAIL_* is defined, too, and there the reader can do something about it.
    """
    # With MAILERS there is none of these, and the error says why.
    return settings if has_mailers() else settings._wrapped


def has_mailers() -> bool:
    """True if the site has MAILERS, so is on Django 6.1 and does without EMAIL_*."""
    return getattr(settings, "MAILERS", None) is not None


def setting_of_mailers() -> str:
    """The setting in which the mailers of this site stand: before Django 6.1 it is our own."""
    return "MAILERS" if has_mailers() else "MAILBRIDGE_MAILERS"


def mailers() -> dict[str | None, Mailer]:
    """Every mailer of the site by its alias, that of EMAIL_BACKEND under None.

    Raises ImproperlyConfigured for what is no dictionary of mailers.
    """
    name = setting_of_mailers()
    entries = getattr(settings, name, {})
    if not isinstance(entries, Mapping) or not all(
        isinstance(e, Mapping) for e in entries.values()
    ):
        raise ImproperlyConfigured(f"{name} must be a dictionary of dictionaries, as MAILERS is.")
    found: dict[str | None, Mailer] = {
        alias: Mailer(alias, str(entry.get("BACKEND", "")), entry.get("OPTIONS") or {})
        for alias, entry in entries.items()
    }
    if not has_mailers():
        found[None] = Mailer(None, str(setting_of("EMAIL_BACKEND")), {})
    return found


def alone(read: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...] | None:
    """What `read` takes from EMAIL_*, if nothing else says where mail goes; None if something may.

    It is what is there now, whoever has changed it, and by whatever means.
    """
    holder = settings._wrapped
    if getattr(holder, "MAILERS", None) is not None or getattr(holder, "MAILBRIDGE", None):
        return None
    try:
        return read(holder)
    except AttributeError:
        return None  # Nobody has looked at the settings before.


def options() -> Mapping[str, Any]:
    """MAILBRIDGE. Raises ImproperlyConfigured if it is no dictionary."""
    ours = getattr(settings, "MAILBRIDGE", {})
    if not isinstance(ours, Mapping):
        raise ImproperlyConfigured("MAILBRIDGE must be a dictionary of options.")
    return ours


def outbox_options() -> Mapping[str, Any]:
    """MAILBRIDGE_OUTBOX."""
    return getattr(settings, "MAILBRIDGE_OUTBOX", None) or {}


def base_dir() -> Path:
    """BASE_DIR, where the project has one, else the working directory."""
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd())


def preview_permission() -> Callable[[HttpRequest], bool] | None:
    """MAILBRIDGE_PREVIEW_ALLOWED: who may see the mailbox page. None if nothing is said."""
    permission: Callable[[HttpRequest], bool] | str | None
    permission = getattr(settings, "MAILBRIDGE_PREVIEW_ALLOWED", None)
    if isinstance(permission, str):
        named: Callable[[HttpRequest], bool] = import_string(permission)
        return named
    return permission


def is_of_mail(name: str) -> bool:
    """True if this setting is about how mail is sent."""
    return name.startswith(("EMAIL_", "MAILERS", "MAILBRIDGE"))
