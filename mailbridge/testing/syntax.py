"""Arguments of MAIL and RCPT: the path, the parameters, and which extension allows which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

# RFC 5321 section 4.1.2. Dot-string is not checked beyond what could hide another path in it.
_PATH: Final = re.compile(
    r"""
    < (?: @[^\s<>:]+ : )?                                   # source route, ignored
    (?P<address> (?: "(?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*" | [^\x00-\x20\x7f<>@",:;()\\]+ )
                 @ [^\x00-\x20\x7f<>@"(),;\\]+
               | postmaster )?
    > (?: [ ] (?P<parameters> \S.* ) )? [ ]?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\s=\x00-\x20\x7f]+))?")
_XTEXT: Final = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})"

MAIL_PARAMETERS: Final = {
    "SIZE": ("SIZE", r"\d{1,20}"),
    "BODY": ("8BITMIME", "7BIT|8BITMIME|BINARYMIME"),
    "SMTPUTF8": ("SMTPUTF8", None),
    "RET": ("DSN", "FULL|HDRS"),
    "ENVID": ("DSN", _XTEXT + "{1,100}"),
    "AUTH": ("AUTH", _XTEXT + "+"),
    "BY": ("DELIVERBY", r"-?\d{1,9};[NR]T?"),
    "MT-PRIORITY": ("MT-PRIORITY", r"-?[0-9]"),
    "HOLDFOR": ("FUTURERELEASE", r"\d{1,9}"),
    "HOLDUNTIL": ("FUTURERELEASE", r"[0-9TZ:.+-]+"),
    "REQUIRETLS": ("REQUIRETLS", None),
}
RCPT_PARAMETERS: Final = {
    # Each word once.
    "NOTIFY": (
        "DSN",
        r"(?!.*\b(\w+)\b.*\b\1\b)(?:NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*)",
    ),
    "ORCPT": ("DSN", r"[A-Za-z0-9-]+;[^\s=]{1,500}"),
    "RRVS": ("RRVS", r"[0-9TZ:.+-]+(?:;[CR])?"),
}


class Unacceptable(Exception):
    """Its text is the reply that the argument deserves."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path (empty for ``<>``) and its parameters as they were sent."""

    address: str
    parameters: tuple[str, ...] = ()

    def value(self, keyword: str) -> str | None:
        """The value of a parameter, "" if it has none; None if the parameter is absent."""
        for parameter in self.parameters:
            name, _, value = parameter.partition("=")
            if name.upper() == keyword:
                return value
        return None


def parse(prefix: Literal["FROM:", "TO:"], argument: str) -> Path:
    """Read a path and its parameters. Raises Unacceptable if there is no path to be read."""
    if argument[: len(prefix)].upper() != prefix:
        raise Unacceptable(f"501 5.5.4 Syntax: {prefix}<address>")
    match = _PATH.fullmatch(argument, len(prefix))
    if match is None or not _is_utf8(argument):
        status = "5.1.7" if prefix == "FROM:" else "5.1.3"
        raise Unacceptable(f"501 {status} Bad address syntax")
    return Path(match["address"] or "", tuple((match["parameters"] or "").split()))


def check_mail(path: Path, offered: Mapping[str, str]) -> None:
    """Raise Unacceptable if ``path`` cannot stand in MAIL under the extensions ``offered``.

    ``offered`` maps each keyword to its line of the EHLO reply, which may set limits.
    """
    _check_parameters(path.parameters, MAIL_PARAMETERS, offered)
    _check_deliver_by(path.value("BY"), offered.get("DELIVERBY", ""))
    _check_hold(path.value("HOLDFOR"), path.value("HOLDUNTIL"), offered.get("FUTURERELEASE", ""))
    if path.value("BODY") == "BINARYMIME" and "BINARYMIME" not in offered:
        raise Unacceptable("555 5.5.4 BINARYMIME is not offered")
    if not path.address.isascii() and path.value("SMTPUTF8") is None:
        raise Unacceptable("553 5.6.7 An internationalised address needs SMTPUTF8")


def check_rcpt(path: Path, offered: Mapping[str, str], *, utf8: bool) -> None:
    """Raise Unacceptable if ``path`` cannot stand in RCPT, in a transaction that is ``utf8``."""
    _check_parameters(path.parameters, RCPT_PARAMETERS, offered)
    if not path.address:
        raise Unacceptable("501 5.1.3 A forward-path cannot be null")
    if not path.address.isascii() and not utf8:
        raise Unacceptable("553 5.6.7 An internationalised address needs SMTPUTF8")


def _check_parameters(
    parameters: tuple[str, ...],
    known: Mapping[str, tuple[str, str | None]],
    offered: Mapping[str, str],
) -> None:
    seen = set()
    for parameter in parameters:
        match = _PARAMETER.fullmatch(parameter)
        if match is None:
            raise Unacceptable("501 5.5.4 Malformed parameter")
        keyword, value = match[1].upper(), match[2]
        extension, form = known.get(keyword, (None, None))
        if extension is None or extension not in offered:
            raise Unacceptable(f"555 5.5.4 Parameter {keyword} is not offered")
        if keyword in seen:
            raise Unacceptable(f"501 5.5.4 Parameter {keyword} stands twice")
        if (form is None) != (value is None) or (
            form and not re.fullmatch(form, value, re.IGNORECASE)
        ):
            raise Unacceptable(f"501 5.5.4 Bad value of parameter {keyword}")
        seen.add(keyword)


def _check_deliver_by(value: str | None, line: str) -> None:
    """RFC 2852 section 4: with mode R no less than the keyword says, and more than nothing."""
    if value is None:
        return
    time, _, mode = value.partition(";")
    least = max(1, *map(int, line.split()[1:2]))
    if mode.upper().startswith("R") and int(time) < least:
        raise Unacceptable("501 5.5.4 The time of BY is below the minimum")


def _check_hold(seconds: str | None, until: str | None, line: str) -> None:
    """RFC 4865 section 4: one of the two, and no more than the keyword says."""
    if seconds is not None and until is not None:
        raise Unacceptable("501 5.5.4 HOLDFOR and HOLDUNTIL exclude each other")
    limits = line.split()[1:]
    if seconds is not None and limits and int(seconds) > int(limits[0]):
        raise Unacceptable("501 5.5.4 HOLDFOR is above the maximum")
    try:
        late = until is not None and len(limits) > 1 and _moment(until) > _moment(limits[1])
    except ValueError:
        raise Unacceptable("501 5.5.4 HOLDUNTIL is no date and time") from None
    if late:
        raise Unacceptable("501 5.5.4 HOLDUNTIL is above the maximum")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _is_utf8(text: str) -> bool:
    # Octets that are not UTF-8 were decoded to lone surrogates.
    return not any("\ud800" <= char <= "\udfff" for char in text)
