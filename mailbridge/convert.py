"""Options as they come from settings and URLs, turned into what they mean.

Each function takes the name of the option for its error, an OptionError (a ValueError).
"""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, TypeVar

from .errors import OptionError
from .host import parse_port

# poll() takes the milliseconds as a C int; sockets refuse a longer time-out, too.
LONGEST = 2_147_483
_DIGITS = re.compile(r"[0-9]{1,20}")
_Choice = TypeVar("_Choice", bound=StrEnum)


def seconds(name: str, value: object) -> float | None:
    """A positive number of seconds, or None."""
    if value is None:
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except OverflowError:
        seconds = math.inf
    except (TypeError, ValueError):
        raise OptionError(f"{name} {value!a:.40} is no number of seconds") from None
    if not seconds > 0:
        raise OptionError(f"{name} must be more than 0 seconds, not {value!r}")
    if seconds > LONGEST:
        raise OptionError(f"{name} is too large a number of seconds: {LONGEST} (24 days) at most")
    return seconds


def pause(name: str, value: object) -> float:
    """A positive number of seconds, and nothing else."""
    if value is None:
        raise OptionError(f"{name} must be a number of seconds, not None")
    return seconds(name, value) or math.inf


def endless(name: str, value: object) -> float:
    """A positive number of seconds, which is infinite for None."""
    unlimited = value is None or value == math.inf
    return math.inf if unlimited else seconds(name, value) or math.inf


def count(name: str, value: object) -> int:
    """A whole number above 0."""
    number = int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise OptionError(f"{name} {value!r} is no whole number above 0")
    return number


def limit(name: str, value: object) -> int | None:
    """A whole number above 0, or None for no limit."""
    return None if value is None else count(name, value)


def choice(name: str, value: object, kind: type[_Choice]) -> _Choice:
    """A member of the enumeration `kind`, from its value in any case."""
    if isinstance(value, kind):
        return value
    try:
        return kind(str(value).lower())
    except ValueError:
        allowed = ", ".join(repr(str(item)) for item in kind)
        raise OptionError(f"{name} {value!r} is not one of {allowed}") from None


def boolean(name: str, value: object) -> bool:
    """True or False, from a bool or a word such as "yes" or "0"."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise OptionError(f"{name} {value!r} is neither true nor false")


def words(name: str, value: object) -> list[str]:
    """The items of a list, or of a text separated by spaces or commas."""
    if isinstance(value, str):
        return value.replace(",", " ").split()
    if not isinstance(value, Iterable):
        raise OptionError(f"{name} {value!r} is neither a list nor a text")
    return [str(item) for item in value]


def text(name: str, value: object) -> str:
    """A text, in the name of a host without spaces and control characters. Does not show it."""
    if not isinstance(value, str):
        raise OptionError(f"{name} must be a text, not {type(value).__name__}")
    if name.endswith("hostname") and any(not char >= "!" for char in value):
        raise OptionError(f"{name} {value!a} contains a space or a control character")
    return value


def path(name: str, value: Any) -> str:
    """A path in the file system as text."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise OptionError(f"{name} must be a path, not {type(value).__name__}") from None


def source_address(name: str, value: Any) -> tuple[str, int]:
    """(IP address, port) to connect from."""
    if not isinstance(value, str) and not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise OptionError(f"{name} {value!r} is neither an IP address nor (address, port)")
    host, port = (value, 0) if isinstance(value, str) else value
    try:
        ip_address(host)
    except ValueError:
        if host:
            raise OptionError(f"{name} {host!r} is no IP address") from None
    return host, parse_port(port)


def function(name: str, value: Any) -> Callable[..., Any]:
    """A callable, also from its dotted path."""
    if isinstance(value, str):
        try:
            value = _resolved(value)
        except (ImportError, AttributeError, ValueError) as exc:
            raise OptionError(f"{name} {value!r} cannot be imported: {exc}") from exc
    if not callable(value):
        raise OptionError(f"{name} must be a callable or its path, not {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def hook(name: str, value: Any) -> Callable[..., Any] | None:
    """What is called if there is anything: a `function`, or None."""
    return None if value is None else function(name, value)


def _resolved(path: str) -> Any:
    module, _, name = path.rpartition(".")
    if module and ":" not in path:
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as exc:
            # What the module itself needs is worth telling; resolve_name would not.
            if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
                raise
    # Imported here: a path is mostly one of a module and a name in it.
    import pkgutil

    return pkgutil.resolve_name(path)


def readable(name: str, path: str) -> None:
    """Check that the file can be read."""
    try:
        with open(path, "rb"):
            return
    except OSError as exc:
        raise OptionError(f"{name} {path!r} cannot be read: {exc.strerror}") from None
