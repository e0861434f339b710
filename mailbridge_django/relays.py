"""Relays by their options, kept: each `send_mail()` makes a backend, of the settings of before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mailbridge import TLS, PoolOptions, Relay, Timeouts
from mailbridge.options import OPTION_NAMES
from mailbridge.security import DKIM_OPTIONS
from mailbridge.url import options_of

_Key = tuple[tuple[str, type, Any], ...]

# What stands elsewhere, in a file or a module, and may be another one by now.
_LOOKED_UP = {"ca_file", "ca_path", "certfile", "keyfile", "ssl_context", "token_provider"} | {
    *DKIM_OPTIONS
}
_PLAIN = {str, int, float, bool, TLS, Timeouts, PoolOptions}


def relay_from(options: Mapping[str, Any]) -> Relay:
    """`Relay.from_options`: the one of before, if all that it is made of is in the options.

    Raises OptionError.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "url" in given:
        given = {**options_of(given.pop("url"), OPTION_NAMES), **given}
    if _LOOKED_UP.isdisjoint(given) and all(type(value) in _PLAIN for value in given.values()):
        # 1, 1.0 and True are equal, and not the same option.
        return _known(tuple((name, type(value), value) for name, value in given.items()))
    return Relay.from_options(given)


@lru_cache(maxsize=32)
def _known(options: _Key) -> Relay:
    return Relay.from_options({name: value for name, _, value in options})
