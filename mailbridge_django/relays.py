"""Relays by their options, kept: each `send_mail()` makes a backend, of the settings of before."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.signals import setting_changed

import mailbridge
from mailbridge import (
    TLS,
    OnRefused,
    OptionError,
    PoolOptions,
    Relay,
    RetryPolicy,
    Timeouts,
    close_pools,
    forget_relays,
)
from mailbridge.convert import boolean, hook, limit, seconds, words
from mailbridge.observe import observers
from mailbridge.options import OPTION_NAMES, RETRY_OPTIONS
from mailbridge.security import DKIM_OPTIONS

from . import settings

if TYPE_CHECKING:
    from mailbridge import Esmtp, Transport
    from mailbridge.hooks import Hook
    from mailbridge.observe import Observer

    from .backends.smtp import EmailBackend

Key = tuple[tuple[str, type, Any], ...]

# What stands elsewhere, in a file or a module, and may be another one by now; or what may name it.
_LOOKED_UP = {"ca_file", "ca_path", "certfile", "keyfile", "ssl_context", "token_provider"} | {
    *("url", "relays", "on_report", "before_final_dot", "after_reply"),
    *DKIM_OPTIONS,
}
_PLAIN = {str, int, float, bool, TLS, Timeouts, PoolOptions}


class Config(NamedTuple):
    """What a backend was configured with. `own` holds options of `Relay.from_options`."""

    host: str
    port: int
    username: str | None
    password: str | None
    use_tls: bool
    use_ssl: bool
    timeout: float | None
    ssl_keyfile: str | None
    ssl_certfile: str | None
    own: dict[str, Any]
    #: What single messages go through, by HELO name and mailer; only if it is `kept`.
    transports: dict[tuple[str | None, str], Transport]
    #: True if it is the same one for the same options.
    kept: bool
    on_refused: OnRefused = OnRefused.RAISE
    retry: RetryPolicy = RetryPolicy()
    relays: tuple[Relay, ...] = ()
    round_robin: bool = False
    deadline: float | None = None
    max_recipients: int | None = None
    esmtp: Esmtp | None = None
    on_report: tuple[Observer, ...] = ()
    before_final_dot: Hook | None = None
    after_reply: Hook | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} for {self.host}>"  # The password is in it.


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
        # Imported here: most settings name the host.
        from mailbridge.url import options_of

        given = {**options_of(given.pop("url"), OPTION_NAMES), **given}
    key = key_of(given)
    return Relay.from_options(**given) if key is None else _known(key)


@lru_cache(maxsize=32)
def _known(key: Key) -> Relay:
    return Relay.from_options(**{name: value for name, _, value in key})


def of_transport(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those options of a transport that are given, as a Config has them. Raises OptionError."""
    found = {n: _CHECKS[n](n, value) for n, value in given.items() if n in _CHECKS}
    if not RETRY_OPTIONS.keys().isdisjoint(given):
        found["retry"] = _retry(given)
    return found


def _retry(given: Mapping[str, Any]) -> RetryPolicy:
    fields = {RETRY_OPTIONS[name]: given[name] for name in RETRY_OPTIONS if name in given}
    for name, field_name in RETRY_OPTIONS.items():
        if name not in given:
            continue
        try:
            RetryPolicy(**{field_name: given[name]})
        except OptionError as exc:
            raise OptionError(re.sub(rf"^{field_name}\b", name, str(exc))) from exc
    return RetryPolicy(**fields)


def _esmtp(name: str, given: Any) -> Esmtp:
    try:
        return mailbridge.Esmtp.of(given)
    except OptionError as exc:
        raise OptionError(f"{name}: {exc}") from exc


def _relays(name: str, given: Any) -> tuple[Relay, ...]:
    """The relays to go on to, each from its URL."""
    try:
        return tuple(map(Relay.from_url, words(name, given)))
    except OptionError as exc:
        raise OptionError(f"{name}: {exc}") from exc


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "on_refused": lambda name, value: OnRefused.parse(value),
    "relays": _relays,
    "round_robin": boolean,
    "deadline": seconds,
    "max_recipients": limit,
    "before_final_dot": hook,
    "after_reply": hook,
    "esmtp": _esmtp,
    "on_report": lambda name, value: observers(value),
}


_decide = attrgetter(
    *("host", "port", "username", "password", "use_tls", "use_ssl", "timeout", "relays"),
    *("on_refused", "retry", "round_robin", "deadline", "max_recipients", "esmtp", "on_report"),
    *("before_final_dot", "after_reply"),
)


def as_configured(backend: EmailBackend, config: Config) -> bool:
    """True if `config` is kept, and nobody has changed what it says of how the backend sends."""
    options, own = backend.options, config.own
    return (
        config.kept
        # A file is looked at each time.
        and not (backend.ssl_certfile or backend.ssl_keyfile)
        and all(map(is_, _decide(backend), _decide(config)))
        and options.keys() == own.keys()
        and all(map(is_, options.values(), own.values()))
    )


def _forget_connections(*, setting: str, **kwargs: Any) -> None:
    """In tests: what was connected to by the settings of before is not for those of now."""
    if settings.is_of_mail(setting):
        close_pools()
        forget_relays()


setting_changed.connect(_forget_connections, dispatch_uid="mailbridge")
