"""The core's errors as the classes of a framework that stand for them."""

from __future__ import annotations

from typing import TypeVar, cast

from .errors import MailError

E = TypeVar("E", bound=MailError)


def as_namesake(error: MailError, cls: type[E]) -> E:
    """The same error as a `cls`, with all that it knows. Its report names this one from now on."""
    rebuild, (_, args), state = error.__reduce__()
    ours = cast(E, rebuild(cls, args))
    ours.__setstate__(state)
    ours.__cause__ = error.__cause__
    ours.__traceback__ = error.__traceback__
    if ours.report is not None and ours.report.error is error:
        ours.report.error = ours
    return ours
