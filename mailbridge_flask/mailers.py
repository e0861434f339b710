"""MAIL_MAILERS: further mailers of an application, each with settings of its own.

    MAIL_MAILERS = {"bulk": {"MAIL_URL": "smtps://bulk.example.org", "MAIL_MAX_PER_SECOND": 5}}

What a mailer does not set is as the application has it. But one that names a server takes nothing
that belongs to the application's: its password would be shown to somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mailbridge import OptionError

from .config import KNOWN, RELAY_SETTINGS, Config

DEFAULT: Final = "default"

_OF_THE_SERVER: Final = frozenset(RELAY_SETTINGS) | {
    *("MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_RELAYS", "MAIL_ROUND_ROBIN"),
}
_NAMES_A_SERVER: Final = frozenset({"MAIL_SERVER", "MAIL_URL"})
_OF_THE_APPLICATION: Final = frozenset(
    {"MAIL_MAILERS", "MAIL_OUTBOX", "MAIL_OUTBOX_SEND", "MAIL_PREVIEW_ALLOWED"}
)


def mailers(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What MAIL_MAILERS says for each name. Raises OptionError where it is not of that form."""
    given = settings.get("MAIL_MAILERS") or {}
    if not isinstance(given, Mapping):
        raise OptionError(
            f"MAIL_MAILERS is a {type(given).__name__}: give a dict of names and settings, such as"
            " {'bulk': {'MAIL_SERVER': 'bulk.example.org'}}"
        )
    return {name: _checked(name, own) for name, own in given.items()}


def config_of(
    name: str, own: Mapping[str, Any], settings: Mapping[str, Any], *, debug: bool = False
) -> Config:
    """The configuration of a mailer whose own settings these are. Raises OptionError."""
    inherited: dict[str, Any] = {key: settings[key] for key in KNOWN if key in settings}
    del inherited["MAIL_MAILERS"]
    if not _NAMES_A_SERVER.isdisjoint(own):
        inherited = {key: inherited[key] for key in inherited if key not in _OF_THE_SERVER}
    try:
        config = Config.from_mapping(own, debug=debug, inherited=inherited)
        # Here no other extension has names of its own.
        if unknown := sorted(own.keys() - KNOWN):
            raise OptionError(f"unknown setting {unknown[0]}")
    except OptionError as exc:
        raise OptionError(f"MAIL_MAILERS[{name!r}]: {exc}") from exc
    return config


def _checked(name: object, own: object) -> dict[str, Any]:
    if not isinstance(name, str) or not name or name == DEFAULT:
        raise OptionError(
            f"MAIL_MAILERS: {name!r} is no name for a mailer; the settings of {DEFAULT!r} are the"
            " application's own"
        )
    if not isinstance(own, Mapping):
        raise OptionError(f"MAIL_MAILERS[{name!r}] is a {type(own).__name__}: give a dict")
    for setting in own:
        if setting in _OF_THE_APPLICATION:
            raise OptionError(f"MAIL_MAILERS[{name!r}]: {setting} is for the whole application")
        if not str(setting).startswith("MAIL_"):
            ours = f"MAIL_{str(setting).upper()}"
            hint = f"did you mean {ours}?" if ours in KNOWN else "settings begin with MAIL_"
            raise OptionError(f"MAIL_MAILERS[{name!r}]: unknown setting {setting}: {hint}")
    return {str(setting): value for setting, value in own.items()}
