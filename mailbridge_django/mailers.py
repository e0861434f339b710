"""The mailers of a site by name, and which of them send by which others."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from mailbridge.convert import words

from . import settings


def named(using: Any) -> tuple[str, ...]:
    """What the option `using` names: one mailer, or several in a list or a text with commas."""
    return () if using is None else tuple(words("using", using))


def backend(using: str, *, fail_silently: bool = False) -> Any:
    """A new backend: that of a mailer's alias, or of a dotted path.

    Raises ImproperlyConfigured for an alias that there is not, and what the backend raises.
    """
    if "." in using and using not in settings.mailers():
        made = of_path(using, fail_silently=fail_silently)
    elif settings.has_mailers():
        from django.core.mail import mailers

        _mailer(using)  # Its error names those that there are.
        made = mailers[using]
    else:
        made = _made(_mailer(using))
    if fail_silently:
        made.fail_silently = True
    return made


def of_path(path: str, *, fail_silently: bool = False) -> Any:
    """A new backend of the class with this dotted path. It raises what that raises."""
    # Not every backend takes this argument, and from Django 6.1 on fewer will.
    return import_string(path)(**({"fail_silently": True} if fail_silently else {}))


def _mailer(alias: str) -> settings.Mailer:
    mailer = settings.mailers().get(alias)
    if mailer is None:
        raise ImproperlyConfigured(missing(alias))
    return mailer


def missing(alias: str) -> str:
    """The text for an alias that there is not."""
    known = ", ".join(repr(name) for name in settings.mailers() if name is not None)
    place = settings.setting_of_mailers()
    return f"'using' names {alias!r}, which is not in {place} ({known or 'it is empty'})"


def _made(mailer: settings.Mailer) -> Any:
    """What Django 6.1 makes of an entry of MAILERS, before Django 6.1."""
    cls = import_string(mailer.backend)
    parameters = inspect.signature(cls).parameters.values()
    takes = any(p.name == "alias" or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return cls(**({"alias": mailer.alias} if takes else {}), **mailer.options)


def problem(alias: str | None, using: Iterable[str]) -> str | None:
    """What is wrong with these names, for a mailer `alias`: one is missing, or leads back to it."""
    known = settings.mailers()
    for name in using:
        if name not in known and "." not in name:
            return missing(name)
    loop = _loop((alias,), using, known)
    return None if loop is None else f"'using' goes round in a circle: {' -> '.join(loop)}"


def _loop(
    path: tuple[str | None, ...],
    using: Iterable[str],
    known: Mapping[str | None, settings.Mailer],
) -> tuple[str, ...] | None:
    """The names from one back to itself, if there is such a way on from `path`."""
    for name in using:
        if name in path:
            return tuple(str(each) for each in (*path[path.index(name) :], name))
        mailer = known.get(name)
        further = () if mailer is None else named(mailer.options.get("using"))
        loop = _loop((*path, name), further, known)
        if loop is not None:
            return loop
    return None
