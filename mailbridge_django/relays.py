"""Relays by their options, kept: each `send_mail()` makes a backend, of the settings of before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.core.signals import setting_changed

from mailbridge import TLS, PoolOptions, Relay, Timeouts, close_pools, forget_relays
from mailbridge.options import OPTION_NAMES
from mailbridge.security import DKIM_OPTIONS
from mailbridge.url import options_of

from . import settings

Key = tuple[tuple[str, type, Any], ...]

# What stands elsewhere, in a file or a module, and may be another one by now; or what may name it.
_LOOKED_UP = {"ca_file", "ca_path", "certfile", "keyfile", "ssl_context", "token_provider"} | {
    *("url", "relays", "on_report", "before_final_dot", "after_reply"),
    *DKIM_OPTIONS,
}
_PLAIN = {str, int, float, bool, TLS, Timeouts, PoolOptions}


def key_of(options: Mapping[str, Any]) -> Key | None:
    """A key for what is made of these options; None if they are not all that it is made of."""
    if not (_LOOKED_UP.isdisjoint(options) and _PLAIN.issuperset(map(type, options.values()))):
        return None
    # 1, 1.0 and True are equal, and not the same option.
    return tuple([(name, type(value), value) for name, value in options.items()])


def relay_from(options: Mapping[str, Any]) -> Relay:
    """`Relay.from_options`: the one of before, if all that it is made of is in the options.

    Raises OptionError.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "url" in given:
        given = {**options_of(given.pop("url"), OPTION_NAMES), **given}
    key = key_of(given)
    return Relay.from_options(given) if key is None else _known(key)


@lru_cache(maxsize=32)
def _known(key: Key) -> Relay:
    return Relay.from_options({name: value for name, _, value in key})


def _forget_connections(*, setting: str, **kwargs: Any) -> None:
    """In tests: what was connected to by the settings of before is not for those of now."""
    if settings.is_of_mail(setting):
        close_pools()
        forget_relays()


setting_changed.connect(_forget_connections, dispatch_uid="mailbridge")
