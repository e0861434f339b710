"""Previews: functions that return a message, to be looked at without being sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

Function = TypeVar("Function", bound=Callable[[], Any])


@dataclass(frozen=True, slots=True)
class Preview:
    """A function without arguments that returns a message of the framework's."""

    slug: str
    name: str
    function: Callable[[], Any]
    about: str = ""


_known: dict[str, Preview] = {}


@overload
def preview(name: Function) -> Function: ...
@overload
def preview(name: str) -> Callable[[Function], Function]: ...
def preview(name: Any) -> Any:
    """Have the mailbox list the message that a function returns: ``@preview("Welcome")``.

    Without a name, ``@preview``, it is the function's. A second one of the same name takes the
    place of the first, as happens when a module is loaded again. The message is never sent.
    """
    if callable(name):
        return _add(name, name.__name__.replace("_", " ").capitalize())
    return lambda function: _add(function, name)


def previews() -> tuple[Preview, ...]:
    """All that are known, by name."""
    return tuple(sorted(_known.values(), key=lambda each: each.name.casefold()))


def find(slug: str) -> Preview | None:
    """The preview of that slug."""
    return _known.get(slug)


def _add(function: Function, name: str) -> Function:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or function.__name__.lower()
    about = (function.__doc__ or "").strip().partition("\n")[0]
    _known[slug] = Preview(slug, name, function, about)
    return function
