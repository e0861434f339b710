"""System checks for the mailers of a site that are mailbridge's. Each connects to nobody.

| id | is about |
|---|---|
| `mailbridge.E001` | an option that is unknown or wrong, or a certificate file that is not there |
| `mailbridge.E002` | `use_tls` together with `use_ssl` |
| `mailbridge.E003` | a mailer without a host |
| `mailbridge.E004` | `using` that names no mailer, or leads back to where it began |
| `mailbridge.W001` | a login without verified TLS, to another machine |
| `mailbridge.W002` | error pages that are lost when the mail server cannot be reached |
| `mailbridge.W003` | a port that belongs to another kind of TLS |
| `mailbridge.W004` | certificates that are not verified (with `--deploy`) |
| `mailbridge.W006` | senders at localhost (with `--deploy`) |
| `mailbridge.W007` | time-outs that never end |
| `mailbridge.W012` | mail that does not go where it is sent to (with `--deploy`) |
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.log import AdminEmailHandler
from django.utils.module_loading import import_string

from mailbridge import TLS, Relay

from . import mailers
from . import settings as of_mail
from .backends import log, redirect
from .backends.smtp import EmailBackend
from .backends.wrapper import Wrapper

#: `Tags.mail` of Django 6.1.
TAG = "mail"
_BROKEN_LINKS = "django.middleware.common.BrokenLinkEmailsMiddleware"
_SETTINGS = {"host": "EMAIL_HOST", "use_tls": "EMAIL_USE_TLS", "use_ssl": "EMAIL_USE_SSL"}
_OF_DJANGO = {
    f"django.core.mail.backends.{module}.EmailBackend": what
    for module, what in {
        "console": "is printed, not sent",
        "dummy": "is thrown away",
        "filebased": "is written to files, not sent",
        "locmem": "is kept in memory, not sent",
    }.items()
}
# RFC 8314 section 7.3: 465 is TLS from the first byte, 587 is submission with STARTTLS.
_PORTS = {(465, TLS.STARTTLS): "use_ssl", (587, TLS.IMPLICIT): "use_tls"}


@dataclass(frozen=True, slots=True)
class _Mailer:
    """A mailer of the site whose backend is one of ours. `alias` is None without MAILERS."""

    alias: str | None
    name: str
    backend: type[EmailBackend]
    options: Mapping[str, Any]

    def relays(self) -> list[Relay]:
        """Where it sends to. Raises ImproperlyConfigured, ValueError."""
        return self.backend(alias=self.alias, **self.options).all_relays()


def register_all() -> None:
    """Register these checks with Django."""
    register(check_options, TAG)
    register(check_wrappers, TAG)
    register(check_relays, TAG)
    register(check_error_pages, TAG)
    register(check_verification, TAG, deploy=True)
    register(check_senders, TAG, deploy=True)
    register(check_destinations, TAG, deploy=True)


def check_options(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E001, E002 and E003: every mailer can be made."""
    found: list[CheckMessage] = []
    for mailer in _mailers():
        try:
            mailer.relays()
        except (ImproperlyConfigured, ValueError) as error:
            found.append(_wrong(mailer, error))
    return found


def _wrong(mailer: _Mailer, error: Exception) -> Error:
    given, name = _given(mailer), mailer.name
    if given.get("use_tls") and given.get("use_ssl"):
        hint = "Keep use_tls for STARTTLS (port 587), or use_ssl for TLS from the start (port 465)."
        return Error(f"{name} has both use_tls and use_ssl.", hint=hint, id="mailbridge.E002")
    if not (given.get("host") or given.get("url")):
        hint = "Name the mail server in OPTIONS, as 'host' or in a 'url'."
        if mailer.alias is None:
            hint = "Name the mail server in EMAIL_HOST, or in the 'url' of MAILBRIDGE."
        return Error(f"{name} has no host.", hint=hint, id="mailbridge.E003")
    hint = "docs/reference/options.md lists every option with its type."
    return Error(f"{name} is no mailer that works: {error}", hint=hint, id="mailbridge.E001")


def _given(mailer: _Mailer) -> Mapping[str, Any]:
    """Its options; for the one without an alias, those that stand in settings."""
    if mailer.alias is not None:
        return mailer.options
    of_django = {option: of_mail.setting_of(name) for option, name in _SETTINGS.items()}
    try:
        return of_django | dict(of_mail.options())
    except ImproperlyConfigured:
        return of_django


def check_wrappers(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """E004, and E001: whoever sends by another mailer has one."""
    found: list[CheckMessage] = []
    for mailer, backend in _ours(Wrapper):
        wrong = mailers.problem(mailer.alias, mailers.named(mailer.options.get("using")))
        if wrong is not None:
            hint = "Name in 'using' a mailer that sends by itself, or by others down to one."
            found.append(Error(f"{mailer.name}: {wrong}.", hint=hint, id="mailbridge.E004"))
            continue
        try:
            backend(alias=mailer.alias, **mailer.options)
        except (ImproperlyConfigured, ValueError) as error:
            hint = "docs/howto/staging.md has the options of the backends that send by others."
            text = f"{mailer.name} is no mailer that works: {error}"
            found.append(Error(text, hint=hint, id="mailbridge.E001"))
    return found


def check_relays(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W001, W003 and W007: what works, or seems to, and should not be so."""
    return [
        warning
        for mailer, relay in _relays()
        for warning in (*_logins(mailer, relay), *_ports(mailer, relay), *_waits(mailer, relay))
    ]


def _logins(mailer: _Mailer, relay: Relay) -> Iterator[CheckMessage]:
    protected = relay.tls in (TLS.STARTTLS, TLS.IMPLICIT) and relay.verifies
    if relay.username and not (protected or relay.is_loopback):
        yield Warning(
            f"{mailer.name} logs in at {relay.address} without verified TLS.",
            hint="Set use_tls (STARTTLS) or use_ssl, and verify certificates: whoever is in"
            " between could read the password.",
            id="mailbridge.W001",
        )


def _ports(mailer: _Mailer, relay: Relay) -> Iterator[CheckMessage]:
    wanted = _PORTS.get((relay.port, relay.tls))
    if wanted is not None:
        yield Warning(
            f"{mailer.name} speaks to port {relay.port} with tls={str(relay.tls)!r}.",
            hint=f"Port {relay.port} goes with {wanted}.",
            id="mailbridge.W003",
        )
    elif relay.port == 25 and relay.username and not relay.is_loopback:
        yield Warning(
            f"{mailer.name} logs in at port 25.",
            hint="Port 25 is for mail between servers; submission is port 587 or 465.",
            id="mailbridge.W003",
        )


def _waits(mailer: _Mailer, relay: Relay) -> Iterator[CheckMessage]:
    times = relay.timeouts
    if None in (times.connect, times.reply, times.final_reply):
        yield Warning(
            f"{mailer.name} waits for ever for {relay.address}.",
            hint="Give seconds instead of None: a server that hangs would hold a worker.",
            id="mailbridge.W007",
        )


def check_error_pages(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W002: who mails an error to the admins must not raise another one.

    With MAILERS Django no longer passes ``fail_silently=True`` there: when the mail server cannot
    be reached, the visitor loses the error page as well.
    """
    return [
        Warning(
            f"{who} sends by MAILERS[{alias!r}], which raises when the mail server cannot be"
            " reached: the error page is lost then.",
            hint="Make a mailer with 'fail_silently': True in its OPTIONS, and name it in 'using'.",
            id="mailbridge.W002",
        )
        for who, alias in _reporters()
        if _raises(alias)
    ]


def _raises(alias: str | None, seen: tuple[str | None, ...] = ()) -> bool:
    """True if a mailer of ours lets through that its server cannot be reached."""
    mailer = of_mail.mailers().get(alias)
    # Without MAILERS Django passes fail_silently.
    if mailer is None or alias in seen or not of_mail.has_mailers():
        return False
    if mailer.options.get("fail_silently"):
        return False
    further = mailers.named(mailer.options.get("using"))
    ours = issubclass(_class_of(mailer) or object, EmailBackend)
    return ours or any(_raises(name, (*seen, alias)) for name in further)


def _reporters() -> Iterator[tuple[str, str]]:
    """Who sends mail while it handles an error, and by which mailer."""
    if settings.ADMINS:
        aliases = {getattr(h, "using", None) or "default" for h in _admin_handlers()}
        yield from (("AdminEmailHandler", alias) for alias in sorted(aliases))
    if settings.MANAGERS and _BROKEN_LINKS in settings.MIDDLEWARE:
        yield "BrokenLinkEmailsMiddleware", "default"


def _admin_handlers() -> Iterator[AdminEmailHandler]:
    named = list(logging.root.manager.loggerDict.values())
    for logger in (logging.root, *named):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, AdminEmailHandler):
                yield handler


def check_verification(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W004: nobody in between reads the mail."""
    return [
        Warning(
            f"{mailer.name} does not verify the certificate of {relay.address}.",
            hint="Drop tls_verify=False; give the issuer's certificate as ca_file.",
            id="mailbridge.W004",
        )
        for mailer, relay in _relays()
        if relay.tls is not TLS.NONE and not relay.verifies and not relay.is_loopback
    ]


def check_senders(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W006: a sender that others can answer, and servers accept."""
    if not any(True for _ in _mailers()):
        return []
    return [
        Warning(
            f"{name} is {getattr(settings, name)!r}.",
            hint=f"Set {name} to an address of your own domain: few servers take mail from there.",
            id="mailbridge.W006",
        )
        for name in ("DEFAULT_FROM_EMAIL", "SERVER_EMAIL")
        if str(getattr(settings, name)).rstrip(">").endswith("@localhost")
    ]


def check_destinations(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    """W012: mail goes to whom it is sent to."""
    return [
        Warning(
            f"Mail of {mailer.name} {what}.",
            hint="That is for development and staging. In production send by"
            " mailbridge_django.EmailBackend.",
            id="mailbridge.W012",
        )
        for mailer, what in _elsewhere()
    ]


def _elsewhere() -> Iterator[tuple[of_mail.Mailer, str]]:
    """Mailers whose mail does not go where it is sent to, and what becomes of it."""
    for mailer, _ in _ours(redirect.EmailBackend):
        yield mailer, "is redirected"
    for mailer, _ in _ours(log.EmailBackend):
        if not mailer.options.get("using"):
            yield mailer, "is logged, not sent"
    # Other aliases of Django's backends are there on purpose.
    for mailer in of_mail.mailers().values():
        if mailer.alias in (None, "default") and mailer.backend in _OF_DJANGO:
            yield mailer, _OF_DJANGO[mailer.backend]


def _relays() -> Iterator[tuple[_Mailer, Relay]]:
    """Every server of every mailer; `check_options` tells of those that cannot be made."""
    for mailer in _mailers():
        try:
            relays = mailer.relays()
        except (ImproperlyConfigured, ValueError):
            continue
        yield from ((mailer, relay) for relay in relays)


def _mailers() -> Iterator[_Mailer]:
    for mailer, backend in _ours(EmailBackend):
        yield _Mailer(mailer.alias, mailer.name, backend, mailer.options)


def _ours(kind: type[Any]) -> Iterator[tuple[of_mail.Mailer, type[Any]]]:
    """The mailers of the site whose backend is of this kind, with its class."""
    for mailer in of_mail.mailers().values():
        backend = _class_of(mailer)
        if isinstance(backend, type) and issubclass(backend, kind):
            yield mailer, backend


def _class_of(mailer: of_mail.Mailer) -> Any:
    try:
        return import_string(mailer.backend)
    except ImportError:
        return None  # Django says so.
