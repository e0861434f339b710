"""A relay as a URL: ``smtp://user:password@host:port?tls=starttls&timeout=30``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .errors import OptionError

# The ports of a URL that names none but says which kind of TLS.
_PORTS = {"implicit": 465, "starttls": 587}


def contradicted(url: object, beside: Mapping[str, object], known: Collection[str]) -> str | None:
    """The first of the options `beside` a URL that says something else than the URL, or None.

    For settings, where half of the one server and half of the other would be neither of them.
    Raises OptionError for a URL that is none.
    """
    if url is None:
        return None
    in_url = options_of(url, known)
    in_url.setdefault("port", _PORTS.get(str(in_url.get("tls")).lower()))
    for option, value in in_url.items():
        if option in beside and not _same(option, beside[option], value):
            return option
    return None


def _same(option: str, value: object, in_url: object) -> bool:
    one, other = str(value), str(in_url)
    if option not in ("username", "password"):
        one, other = one.lower(), other.lower()
    return one == other


def unknown_option(name: str, known: Collection[str]) -> str:
    """The text for an option that is none, with a guess at what was meant."""
    import difflib  # Imported here: it is for somebody's mistake.

    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"unknown option {name!r}{hint}"


def options_of(url: object, known: Collection[str]) -> dict[str, Any]:
    """The options that a URL holds, as texts. `known` are those that its query may name.

    Raises OptionError; its text shows no part of what may be a password.
    """
    if not isinstance(url, str):
        raise OptionError(f"url must be a string, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        # The text of the exception may hold a piece of the password; its kind says enough.
        kind = "port" if "port" in str(exc).lower() else "host"
        raise OptionError(f"url: the {kind} is malformed; percent-encode /, ?, #, @, :") from None
    if parts.scheme not in ("smtp", "smtps", "lmtp"):
        raise OptionError(
            f"url: scheme {parts.scheme!r} is not one of smtp, smtps, lmtp, as in"
            " smtp://mail.example.org:587"
        )
    if not parts.hostname or not parts.netloc:
        raise OptionError(f"url: the host is missing, as in {parts.scheme}://mail.example.org")
    if parts.path not in ("", "/") or parts.fragment or "@" in parts.query:
        # The text is not shown: it may be the rest of a password.
        raise OptionError(
            "url: nothing may follow the port but ?options; percent-encode / ? # @ in a password"
        )
    options: dict[str, Any] = {"host": unquote(parts.hostname)}
    if port is not None:
        options["port"] = port
    if parts.username is not None:
        options["username"] = unquote(parts.username)
    if parts.password is not None:
        options["password"] = unquote(parts.password)
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known or name == "url":
            raise OptionError(f"url: {unknown_option(name, known)}")
        if name == "token_provider":
            raise OptionError("url: token_provider is no part of a URL; give it beside the url")
        if name in options:
            raise OptionError(f"url: {name} is given twice")
        options[name] = value
    if parts.scheme == "smtps" and options.setdefault("tls", "implicit").lower() != "implicit":
        raise OptionError(f"url: smtps:// and tls={options['tls']} contradict each other")
    if parts.scheme == "lmtp":
        options["lmtp"] = True
    return options
