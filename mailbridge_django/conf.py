"""Arguments, EMAIL_* and MAILBRIDGE to one checked Config.

With an alias (an entry of MAILERS) no setting is read. Without one a keyword argument counts
before ``settings.MAILBRIDGE``, and that before ``settings.EMAIL_*``.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

import django.core.mail.utils
from django.core.exceptions import ImproperlyConfigured

from mailbridge import TLS, OptionError, Relay, Secret
from mailbridge.host import check_helo_name
from mailbridge.options import OPTION_NAMES, TRANSPORT_OPTIONS
from mailbridge.tls import tls_context

from . import settings
from .relays import Config, Key, key_of, of_transport, relay_from

if TYPE_CHECKING:
    from .backends.smtp import EmailBackend

#: Django's options, in the order of the constructor, and the settings behind them.
DJANGO_OPTIONS = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
    "ssl_keyfile": "EMAIL_SSL_KEYFILE",
    "ssl_certfile": "EMAIL_SSL_CERTFILE",
}
#: Ours: keyword arguments, so OPTIONS under MAILERS, and keys of MAILBRIDGE.
OWN_OPTIONS = (OPTION_NAMES | TRANSPORT_OPTIONS) - DJANGO_OPTIONS.keys()
_KNOWN = OWN_OPTIONS | DJANGO_OPTIONS.keys()
#: What a url says; with one, these are not taken from EMAIL_*.
_IN_URL = ("host", "port", "username", "password", "use_tls", "use_ssl")
_FILES = ("ca_file", "certfile", "keyfile")
_CERTIFICATES = (*_FILES, "ca_path", "tls_verify", "ssl_context")


def misconfigured(text: str, alias: str | None) -> ImproperlyConfigured:
    """The error for a wrong option: InvalidMailer on Django 6.1 with an alias."""
    if alias is None:
        return ImproperlyConfigured(text)
    try:
        from django.core.mail import InvalidMailer
    except ImportError:  # before Django 6.1
        return ImproperlyConfigured(f"{settings.setting_of_mailers()}[{alias!r}]: {text}")
    return InvalidMailer(text, alias=alias)


def unknown_options(names: Iterable[str], known: Iterable[str] = ()) -> str:
    """Django's text for unknown options, with a guess at what was meant."""
    names = list(names)
    known = sorted({*(known or OWN_OPTIONS | DJANGO_OPTIONS.keys()), "fail_silently"})
    guesses = [difflib.get_close_matches(name, known, 1) for name in names]
    hints = [
        f"did you mean {near[0]!r} for {name!r}?"
        for name, near in zip(names, guesses, strict=True)
        if near
    ]
    hint = "; ".join(hints).capitalize() if hints else f"Known are: {', '.join(known)}."
    return f"Unknown options {', '.join(map(repr, names))}. {hint}"


def refuse_unknown(kwargs: Mapping[str, Any], known: Iterable[str] = ()) -> None:
    """Raise ImproperlyConfigured for arguments that are left over, if there is an alias.

    Without one Django passes its own arguments to every backend, and those are nobody's mistake.
    """
    if kwargs.get("alias") is None:
        return
    ignored = {"alias", "_ignore_unknown_kwargs", *(kwargs.get("_ignore_unknown_kwargs") or ())}
    unknown = [name for name in kwargs if name not in ignored]
    if unknown:
        raise misconfigured(unknown_options(unknown, known), kwargs["alias"])


def configure(
    alias: str | None, django_options: Mapping[str, Any], own: Mapping[str, Any]
) -> Config:
    """The configuration of one backend. Reads no file and opens no connection.

    Raises ImproperlyConfigured (InvalidMailer on Django 6.1 with an alias) that names the wrong
    option; ValueError for EMAIL_USE_TLS with EMAIL_USE_SSL, as Django does.
    """
    given = {name: value for name, value in django_options.items() if value is not None}
    own = {name: value for name, value in own.items() if value is not None}
    try:
        if alias is None:
            if not (given or own) and (said := settings.alone(_of_django)) is not None:
                return _of_settings(said)
            given, own = _with_settings(given, own)
        django_key, own_key = key_of(given), key_of(own)
        if django_key is None or own_key is None:
            return _checked(alias, given, own)
        return _known(alias, django_key, own_key)
    except OptionError as exc:
        raise wrong_option(exc, given, alias) from exc


@functools.lru_cache(maxsize=32)
def _known(alias: str | None, django_options: Key, own: Key) -> Config:
    """The configuration of before, if all that it is made of is in the options."""
    given = {name: value for name, _, value in django_options}
    return _checked(alias, given, {name: value for name, _, value in own}, kept=True)


_of_django = attrgetter(*DJANGO_OPTIONS.values())
#: What EMAIL_* said last, and what that came to.
_last: tuple[tuple[Any, ...], Config] | None = None


def _of_settings(said: tuple[Any, ...]) -> Config:
    """The configuration where EMAIL_* says it all. Each send_mail() asks for it."""
    global _last
    last = _last
    if last is not None and all(map(is_, said, last[0])):
        return last[1]
    given = {n: v for n, v in zip(DJANGO_OPTIONS, said, strict=True) if v is not None}
    key = key_of(given)
    if key is None:
        return _checked(None, given, {})
    config = _known(None, key, ())
    _last = said, config
    return config


def _with_settings(
    given: dict[str, Any], own: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fill in from MAILBRIDGE and EMAIL_* what was not given."""
    ours = settings.options()
    if ours:
        unknown = [str(name) for name in ours if name not in _KNOWN]
        if unknown:
            raise ImproperlyConfigured(f"MAILBRIDGE: {unknown_options(unknown)}")
        ours = {name: value for name, value in ours.items() if value is not None}
        _check_url(ours)
        own = {name: ours[name] for name in ours if name in OWN_OPTIONS} | own
    # An empty host and port 0 are as good as none, an empty user name means no AUTH.
    ours = {**ours, **{n: v for n, v in given.items() if v or n not in ("host", "port")}}
    url = "url" in own
    of_django = settings.of_django()
    found = {}
    for name, setting in DJANGO_OPTIONS.items():
        value = ours.get(name)
        if value is None and not (url and name in _IN_URL):
            value = getattr(of_django, setting)
        if value is not None:
            found[name] = value
    return found, own


def _check_url(options: Mapping[str, Any], alias: str | None = None) -> None:
    """Refuse an option that says something else than the `url` beside it. Raises OptionError."""
    if options.get("url") is None:
        return
    from mailbridge.url import contradicted  # Imported here: most settings name the host.

    if (option := contradicted(options["url"], options, OPTION_NAMES)) is not None:
        raise misconfigured(f"'{option}' and 'url' contradict each other: drop '{option}'.", alias)


def _check_contradictions(
    alias: str | None, given: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    if given.get("use_ssl") and given.get("use_tls"):
        if alias is None:
            # Django's text and type, which some projects' tests know by heart.
            raise ValueError(
                "EMAIL_USE_TLS/EMAIL_USE_SSL are mutually exclusive, so only set "
                "one of those settings to True."
            )
        raise misconfigured(
            "The 'use_ssl' and 'use_tls' OPTIONS are incompatible. "
            "Set at most one of them to True.",
            alias,
        )
    if alias is not None and "host" not in given and "url" not in own:
        raise misconfigured("OPTIONS must define 'host'.", alias)
    if alias is not None:
        _check_url({**own, **given}, alias)
    if not own:
        return
    for option, wanted in (("use_tls", TLS.STARTTLS), ("use_ssl", TLS.IMPLICIT)):
        if given.get(option) and str(own.get("tls", wanted)).lower() != wanted:
            raise misconfigured(
                f"'{option}' and tls={str(own['tls'])!r} contradict each other: drop one of them.",
                alias,
            )
    for django_name, name in (("ssl_certfile", "certfile"), ("ssl_keyfile", "keyfile")):
        if given.get(django_name) and own.get(name):
            raise misconfigured(
                f"'{django_name}' and '{name}' are two names of one option: drop one of them.",
                alias,
            )


def _checked(
    alias: str | None, given: dict[str, Any], own: dict[str, Any], *, kept: bool = False
) -> Config:
    _check_contradictions(alias, given, own)
    own = dict(own)
    transport = {name: own.pop(name) for name in [*own] if name in TRANSPORT_OPTIONS}
    files = {name: own.pop(name) for name in _FILES if name in own}
    options = own | {n: given[n] for n in ("host", "port", "timeout") if n in given}
    options |= credentials(given.get("username"), given.get("password"), own)
    tls = _tls(given) or own.get("tls")
    if tls is None and "url" not in own:
        tls = TLS.NONE
    # How the names go together is checked here; the files are read when they are needed.
    named = {*files, *(_certificate(given) if tls not in (None, TLS.NONE) else ())}
    relay = relay_from({**options, "tls": tls, **dict.fromkeys(named, os.devnull)})
    if "url" in own:
        own = _not_default(relay)
        files = {n: own[n] for n in _FILES if n in own and n not in named} | files
    own = {n: v for n, v in own.items() if n not in ("tls", *_FILES)} | files
    if relay.tls is TLS.OPPORTUNISTIC:
        own["tls"] = relay.tls
    by_mode = {TLS.IMPLICIT: 465, TLS.STARTTLS: 587}.get(relay.tls, 25)
    default_port = not (given.get("port") or "url" in options or relay.lmtp)
    return Config(
        host=given.get("host", relay.host),
        # Django's default, which does not look at the credentials.
        port=by_mode if default_port else relay.port,
        username=given.get("username", relay.username),
        password=given.get("password", relay.password and Secret(relay.password).reveal()),
        use_tls=given.get("use_tls") or relay.tls is TLS.STARTTLS,
        use_ssl=given.get("use_ssl") or relay.tls is TLS.IMPLICIT,
        timeout=given.get("timeout"),
        ssl_keyfile=given.get("ssl_keyfile"),
        ssl_certfile=given.get("ssl_certfile"),
        own=own,
        transports={},
        kept=kept,
        **of_transport(transport),
    )


def django_options(backend: EmailBackend) -> dict[str, Any]:
    """The attributes of a backend that are Django's options, as they are now."""
    return {name: getattr(backend, name) for name in DJANGO_OPTIONS}


def relay_of(backend: EmailBackend, context: ssl.SSLContext | None = None) -> Relay:
    """The relay that a backend's attributes describe now: subclasses change them at will.

    `context` takes the place of the options for certificates. Raises ImproperlyConfigured, also
    for a certificate file that cannot be read.
    """
    given = django_options(backend)
    options = dict(backend.options)
    tls = _tls(given) or options.get("tls", TLS.NONE)
    options |= {"host": backend.host, "port": backend.port, "tls": tls}
    if "timeouts" not in options:
        options["timeout"] = backend.timeout
    options |= credentials(backend.username, backend.password, options)
    options["local_hostname"] = options.get("local_hostname") or helo_name()
    if context is not None:
        options = {n: v for n, v in options.items() if n not in _CERTIFICATES}
        options["ssl_context"] = context
    elif tls is not TLS.NONE:
        options |= _certificate(given)
    try:
        return relay_from(options)
    except OptionError as exc:
        raise wrong_option(exc, given, backend.alias) from exc


def _not_default(relay: Relay) -> dict[str, Any]:
    local = Relay(host="localhost")
    own = {f.name: getattr(relay, f.name) for f in fields(Relay) if f.name in OWN_OPTIONS}
    return {name: value for name, value in own.items() if value != getattr(local, name)}


def new_context(backend: EmailBackend) -> ssl.SSLContext:
    """A TLS context for the backend's options that nobody else has. Raises ImproperlyConfigured."""
    given = django_options(backend)
    options = {**backend.options, **_certificate(given)}
    names = ("ca_file", "ca_path", "certfile", "keyfile")
    files = {name: options.get(name) for name in names}
    try:
        return tls_context(**files, verify=options.get("tls_verify", True), shared=False)
    except OptionError as exc:
        raise wrong_option(exc, given, backend.alias) from exc


def helo_name() -> str | None:
    """This host's name as Django caches it, or None if it is none that a server would accept."""
    # Looked up here, in its module, so that what tests put there is used.
    name = django.core.mail.utils.DNS_NAME.get_fqdn()
    try:
        return check_helo_name(name) if "." in name else None
    except OptionError:
        return None


def _certificate(given: Mapping[str, Any]) -> dict[str, Any]:
    names = (("certfile", "ssl_certfile"), ("keyfile", "ssl_keyfile"))
    return {name: given[ours] for name, ours in names if given.get(ours)}


def _tls(given: Mapping[str, Any]) -> TLS | None:
    if given.get("use_ssl"):
        return TLS.IMPLICIT
    return TLS.STARTTLS if given.get("use_tls") else None


def credentials(
    username: str | None, password: str | None, own: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """User name and password as options. Django logs in only if it has both.

    With a token provider, or by a certificate, `own` says that the name alone is enough.
    """
    if username and not password and own and {"token_provider", "auth_mechanisms"} & own.keys():
        return {"username": username}
    return {"username": username, "password": password} if username and password else {}


def wrong_option(
    error: OptionError, given: Mapping[str, Any], alias: str | None
) -> ImproperlyConfigured:
    """The core's error for an option, with Django's names for it, as Django's."""
    text = str(error)
    if _certificate(given):
        text = re.sub(r"(?<![/\w])(cert|key)file(?![/.\w])", r"ssl_\1file", text)
    if alias is None and not text.startswith("url:"):
        named = [n for n in DJANGO_OPTIONS if re.search(rf"\b{n}\b", text)]
        text += f" ({', '.join(DJANGO_OPTIONS[n] for n in named)})" if named else ""
    return misconfigured(text, alias)
