"""EHLO keywords: what the server offers (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from .reply import Reply

# "AUTH=LOGIN PLAIN" is how servers announced AUTH before RFC 2554, some do so to this day.
_KEYWORD = re.compile(
    r"([a-z0-9][a-z0-9-]*)(?:(?:[ \t]|(?<=^auth)=)(.*))?", re.ASCII | re.IGNORECASE
)
_SIZE = re.compile(r"[0-9]{1,20}")

# The keyword that allows a parameter of MAIL or RCPT, where it is not the parameter's own name.
_ALLOWED_BY = {
    "body": "8bitmime",
    "ret": "dsn",
    "envid": "dsn",
    "notify": "dsn",
    "orcpt": "dsn",
    "by": "deliverby",
    "holdfor": "futurerelease",
    "holduntil": "futurerelease",
}


class Extensions(dict[str, str]):
    """Keywords in lower case with their parameters; `smtplib`'s `esmtp_features`.

    A dict that callers may edit: what is deleted from it is not used.
    """

    @classmethod
    def from_reply(
        cls, reply: Reply, *, ignore: Iterable[str] = (), in_tls: bool = False
    ) -> Extensions:
        """What an EHLO reply offers. Lines that are no keywords are ignored."""
        extensions = cls()
        for line in reply.lines[1:]:
            match = _KEYWORD.fullmatch(line.decode("utf-8", "backslashreplace").strip())
            if match is None:
                continue
            keyword, parameters = match[1].lower(), (match[2] or "").strip()
            if keyword == "auth" and keyword in extensions:
                parameters = f"{extensions[keyword]} {parameters}".strip()
            extensions[keyword] = parameters
        for keyword in ignore:
            extensions.pop(keyword.lower(), None)
        if in_tls:
            # RFC 3207 section 4.2: STARTTLS inside TLS must not be used, so it is not offered.
            extensions.pop("starttls", None)
        return extensions

    def offers(self, keyword: str) -> bool:
        """Whether `keyword` is offered, in any case of letters."""
        return keyword.lower() in self

    def allows(self, parameter: str) -> bool:
        """Whether a MAIL or RCPT parameter such as ``NOTIFY=NEVER`` may be used."""
        name, _, value = parameter.lower().partition("=")
        if (name, value) == ("body", "binarymime"):
            # RFC 3030 section 3: only together with CHUNKING.
            return "binarymime" in self and "chunking" in self
        return _ALLOWED_BY.get(name, name) in self

    @property
    def size_limit(self) -> int | None:
        """The largest content in octets; None if the server names no limit (RFC 1870 section 4)."""
        return _size(self.get("size", ""))

    def _limit(self, name: str) -> int | None:
        # RFC 9422 section 3: LIMITS name=value ...; what is malformed is ignored.
        limits = self.get("limits")
        for item in limits.split() if limits else ():
            key, _, value = item.partition("=")
            if key.upper() == name and _SIZE.fullmatch(value) and int(value) > 0:
                return int(value)
        return None

    @property
    def mail_max(self) -> int | None:
        """The transactions that the server allows in a session (RFC 9422 section 4.1)."""
        return self._limit("MAILMAX")

    @property
    def rcpt_max(self) -> int | None:
        """The recipients that the server allows in a transaction (RFC 9422 section 4.2)."""
        return self._limit("RCPTMAX")

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """SASL mechanisms in upper case, in the server's order, each once."""
        return tuple(dict.fromkeys(self.get("auth", "").upper().split()))


@functools.lru_cache(maxsize=128)
def _size(declared: str) -> int | None:
    # Asked for with every mail.
    return (int(declared) or None) if _SIZE.fullmatch(declared) else None
