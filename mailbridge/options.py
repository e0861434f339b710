"""Where to send and how: Relay, Timeouts, Secret. Parsed once, here; secrets stay hidden.

A Relay is made from keyword options (Django's OPTIONS, Flask's MAIL_*) or from a URL; both go
through the same checks and name the option that is wrong.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from . import security
from .convert import (
    boolean,
    choice,
    count,
    endless,
    function,
    limit,
    path,
    pause,
    seconds,
    source_address,
    text,
    words,
)
from .errors import OptionError
from .host import check_helo_name, host_and_port, parse_host, parse_port
from .secret import Secret

if TYPE_CHECKING:
    from .dkim import Signer
    from .protocol.sasl import Mechanism


class TLS(StrEnum):
    """How a connection is protected. Wherever TLS is used, the certificate is verified."""

    NONE = "none"
    """Never, even if the server offers it."""
    OPPORTUNISTIC = "opportunistic"
    """STARTTLS if the server offers it; a failing handshake is an error, not a way around it."""
    STARTTLS = "starttls"
    """STARTTLS, or an error before anything is sent."""
    IMPLICIT = "implicit"
    """TLS from the first byte (RFC 8314)."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase as a whole; a server that drips bytes does not extend them.

    `connect`: from the name look-up to the end of the TCP and TLS handshake. `reply`: each reply,
    and each block of content. `final_reply`: the reply to the final dot. None waits for ever.
    """

    connect: float | None = 10.0
    reply: float | None = 60.0
    # RFC 5321 section 4.5.3.2.6: ten minutes for the reply to the final dot. Hanging up
    # sooner is how one message arrives twice (RFC 1047).
    final_reply: float | None = 600.0

    def __post_init__(self) -> None:
        for name in ("connect", "reply", "final_reply"):
            value = seconds(f"{name} timeout", getattr(self, name))
            object.__setattr__(self, name, value)

    @classmethod
    def all(cls, seconds: float | None) -> Timeouts:
        """The same time for every phase."""
        return cls(seconds, seconds, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How connections are kept. Times are in seconds, `math.inf` for no end.

    `max_connections` to the relay at a time, for the whole process; `wait_timeout` for one to
    become free. A connection is closed after `max_messages`, at `max_age`, or `idle_timeout`
    after its last mail. `max_per_second` bounds the mails sent. After `breaker_failures` failed
    connections in a row (refused, lost, or never greeted) none is tried for `breaker_pause`.
    """

    max_connections: int = 10
    max_messages: int | None = 100
    max_age: float = 600.0
    # Servers hang up on idle clients after 5 minutes (RFC 5321 section 4.5.3.2.7) or sooner.
    idle_timeout: float = 60.0
    wait_timeout: float = 60.0
    max_per_second: float | None = None
    breaker_failures: int = 5
    breaker_pause: float = 10.0

    def __post_init__(self) -> None:
        for name in ("max_connections", "breaker_failures"):
            object.__setattr__(self, name, count(name, getattr(self, name)))
        object.__setattr__(self, "max_messages", limit("max_messages", self.max_messages))
        for name in ("max_age", "idle_timeout", "wait_timeout", "breaker_pause"):
            object.__setattr__(self, name, endless(name, getattr(self, name)))
        rate = seconds("max_per_second", self.max_per_second)
        object.__setattr__(self, "max_per_second", rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try again where nothing was handed over. Times in seconds.

    `tries` in all; the pause before the next is drawn from 0 to `delay`, twice that each time,
    up to `max_delay`. One try, the default, never waits. A transport's `deadline` bounds this as
    it does everything else about a send.
    """

    tries: int = 1
    delay: float = 1.0
    max_delay: float = 60.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tries", count("tries", self.tries))
        for name in ("delay", "max_delay"):
            object.__setattr__(self, name, pause(name, getattr(self, name)))


_TIMEOUTS, _POOL = Timeouts(), PoolOptions()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Relay:
    """A server to submit mail to, and everything that decides how we talk to it. Immutable.

    `port` defaults to 465 with implicit TLS, 587 with required STARTTLS or credentials, 25
    otherwise (24 for LMTP). `timeout` sets all `timeouts`. Raises OptionError (a ValueError)
    that names the option.
    """

    host: str
    port: int = 0
    tls: TLS = TLS.OPPORTUNISTIC
    username: str | None = None
    password: Secret | str | None = None
    local_hostname: str | None = None
    source_address: tuple[str, int] | None = None
    timeouts: Timeouts = _TIMEOUTS
    ca_file: str | None = None
    ca_path: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    tls_verify: bool = True
    server_hostname: str | None = None
    ssl_context: ssl.SSLContext | Callable[[], ssl.SSLContext] | None = field(default=None)
    fingerprint: tuple[str, ...] | str = ()
    allow_insecure_auth: bool = False
    auth_mechanisms: tuple[str | Mechanism, ...] | str | None = None
    token_provider: Callable[[], Any] | str | None = None
    # Long enough that no account is locked by us, short enough to mend a password and wait.
    auth_pause: float = 300.0
    ignore_extensions: frozenset[str] = frozenset()
    bdat_window: int | None = None
    lmtp: bool = False
    strict: bool = False
    dkim: Signer | None = None
    pool: PoolOptions = _POOL

    def __post_init__(self) -> None:
        for name, checked in _CHECKS.items():
            value = getattr(self, name)
            if value is not _DEFAULTS[name]:
                object.__setattr__(self, name, checked(name, value))
        if not self.port:
            object.__setattr__(self, "port", self._default_port())
        if self.bdat_window is not None and self.lmtp:
            raise OptionError("bdat_window and lmtp are both set: LMTP has no such window")
        security.check_login(self)
        security.check_tls(self)

    def _default_port(self) -> int:
        if self.lmtp:
            return 24
        if self.tls is TLS.IMPLICIT:
            return 465
        return 587 if self.tls is TLS.STARTTLS or self.username else 25

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None = None, **kwargs: Any) -> Relay:
        """A Relay from named options, as frameworks have them.

        Besides the fields: `url` (the others override it), `timeout` (seconds for all phases),
        `connect_timeout`, `reply_timeout`, `final_reply_timeout`. Texts are converted, options
        that are None are as if not given. Raises OptionError for an unknown option.
        """
        if options is not None and not isinstance(options, Mapping):
            raise OptionError(f"options must be a mapping of names, not {type(options).__name__}")
        values = {**(options or {}), **kwargs}
        given = {str(name): value for name, value in values.items() if value is not None}
        if given.get("username") == "":
            # Settings often have "" for "no login".
            given = {n: v for n, v in given.items() if n not in ("username", "password")}
        if not given.keys() <= _DEFAULTS.keys():
            given = _as_fields(given)
        if "host" not in given:
            raise OptionError("host is missing: name the mail server, or give a url")
        return cls(**given)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Relay:
        """A Relay from ``smtp://user:password@host:port?tls=starttls&timeout=30``.

        Schemes: smtp, smtps (implicit TLS), lmtp. User and password are percent-decoded; the
        query takes any option of `from_options`. Raises OptionError (a ValueError).
        """
        return cls.from_options(url=url, **options)

    def using(self, **changes: Any) -> Self:
        """A changed copy."""
        return replace(self, **changes)

    def treating_content_as(self, other: Relay) -> Self:
        """This relay, as strict as `other` and with its signature, unless it has one of its own.

        What is done to a mail should not depend on who takes it in the end.
        """
        return self.using(strict=self.strict or other.strict, dkim=self.dkim or other.dkim)

    @property
    def address(self) -> str:
        """``host:port``, with brackets round an IPv6 address."""
        return host_and_port(self.host, self.port)

    @property
    def verifies(self) -> bool:
        """True if the server's certificate and name are checked."""
        context = self.ssl_context
        if self.fingerprint:
            return True
        if isinstance(context, ssl.SSLContext):
            return context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
        return self.tls_verify

    @property
    def pinned_only(self) -> bool:
        """True if the fingerprint takes the place of a CA, rather than being asked beside one."""
        return bool(self.fingerprint) and not (self.ca_file or self.ca_path or self.ssl_context)

    @property
    def mechanisms(self) -> tuple[str | Mechanism, ...] | None:
        """`auth_mechanisms`, checked."""
        chosen = self.auth_mechanisms
        return (chosen,) if isinstance(chosen, str) else chosen

    @property
    def logs_in(self) -> bool:
        """True if there is somebody to log in as."""
        return self.username is not None or "EXTERNAL" in (self.auth_mechanisms or ())

    @property
    def is_loopback(self) -> bool:
        """True for this machine: nothing that is sent there crosses a network."""
        if self.host == "localhost" or self.host.startswith("/"):
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __hash__(self) -> int:
        # Asked for with every mail; those that are equal in these mostly are in all.
        return hash((self.host, self.port, self.username))

    def __repr__(self) -> str:
        scheme = "lmtp" if self.lmtp else "smtps" if self.tls is TLS.IMPLICIT else "smtp"
        user = f"{quote(self.username, safe='')}:***@" if self.username else ""
        tls = "" if self.tls is TLS.IMPLICIT else f"?tls={self.tls}"
        return f"Relay({scheme}://{user}{self.address}{tls})"


def _check_timeouts(name: str, value: Any) -> Timeouts:
    if not isinstance(value, Timeouts):
        raise OptionError(f"{name} must be a Timeouts, not {value!r}; see timeout")
    return value


def _check_pool(name: str, value: Any) -> PoolOptions:
    if not isinstance(value, PoolOptions):
        raise OptionError(f"{name} must be a PoolOptions, not {value!r}")
    return value


_DEFAULTS = {f.name: f.default for f in fields(Relay)}
#: What makes of an option what it means, or raises OptionError. A default is that already.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "host": lambda name, value: parse_host(value),
    "username": text,
    "local_hostname": lambda name, value: check_helo_name(text(name, value)),
    "server_hostname": text,
    "tls": lambda name, value: choice(name, value, TLS),
    "port": lambda name, value: parse_port(value),
    "password": security.password,
    "tls_verify": boolean,
    "allow_insecure_auth": boolean,
    "lmtp": boolean,
    "strict": boolean,
    "dkim": security.signer,
    "timeouts": _check_timeouts,
    "pool": _check_pool,
    "ignore_extensions": lambda name, value: frozenset(map(str.upper, words(name, value))),
    "ca_file": path,
    "ca_path": path,
    "certfile": path,
    "keyfile": path,
    "source_address": source_address,
    "bdat_window": count,
    "fingerprint": security.fingerprints,
    "auth_mechanisms": security.mechanisms,
    "token_provider": function,
    "auth_pause": pause,
}
#: Options that are parts of other values, and the fields they are there.
TIMEOUT_OPTIONS = {
    "connect_timeout": "connect",
    "reply_timeout": "reply",
    "final_reply_timeout": "final_reply",
}
POOL_OPTIONS = {
    name: name
    for name in ("max_connections", "max_messages", "max_age", "idle_timeout", "max_per_second")
} | {"pool_timeout": "wait_timeout"}
RETRY_OPTIONS = {
    "tries": "tries",
    "retry_delay": "delay",
    "retry_max_delay": "max_delay",
}
#: Options of a Transport, by the names that the frameworks have for them.
TRANSPORT_OPTIONS = frozenset(
    {
        *("on_refused", "relays", "round_robin", "deadline", "esmtp", "on_report"),
        *("max_recipients", "before_final_dot", "after_reply"),
        *RETRY_OPTIONS,
    }
)
#: Every option that `Relay.from_options` takes.
OPTION_NAMES = frozenset(f.name for f in fields(Relay)) | {
    "url",
    "timeout",
    *TIMEOUT_OPTIONS,
    *POOL_OPTIONS,
    *security.DKIM_OPTIONS,
}


def _as_fields(options: dict[str, Any]) -> dict[str, Any]:
    """Fields of a Relay: from a URL, and from options that are parts of fields."""
    unknown = [name for name in options if name not in OPTION_NAMES]
    if unknown:
        from .url import unknown_option  # Imported here: it is for somebody's mistake.

        raise OptionError(unknown_option(unknown[0], OPTION_NAMES))
    url = options.pop("url", None)
    if url is not None:
        from .url import options_of  # Imported here: most relays come from named options.

        options = {**options_of(url, OPTION_NAMES), **options}
    return security.with_signer(_pool(_timeouts(options)))


def _pool(given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    changes = {field: values.pop(name) for name, field in POOL_OPTIONS.items() if name in values}
    if changes:
        values["pool"] = replace(_check_pool("pool", values.get("pool", _POOL)), **changes)
    return values


def _timeouts(given: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(given)
    timeouts = _check_timeouts("timeouts", values.get("timeouts", _TIMEOUTS))
    if "timeout" in values:
        timeouts = Timeouts.all(seconds("timeout", values.pop("timeout")))
    for option, name in TIMEOUT_OPTIONS.items():
        if option in values:
            timeouts = replace(timeouts, **{name: seconds(option, values.pop(option))})
    return {**values, "timeouts": timeouts}
