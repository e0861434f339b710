"""What the page is asked, what it answers, and how text gets into HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Self
from urllib.parse import quote

#: Nothing from elsewhere, no inline script or style, and nobody may frame it but itself.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: For the HTML of a message: no script, no form, no origin; images only as `data:`. Links open in
#: a window of their own.
MAIL_POLICY = (
    "default-src 'none'; img-src data:{remote}; style-src 'unsafe-inline'{remote};"
    " font-src data:{remote}; media-src data:{remote}; form-action 'none'; base-uri 'none';"
    " frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
)
#: For octets of a message: whatever a browser takes them for, it may do nothing with them.
FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request below the place where the mailbox is mounted.

    `path` is relative to `base`, which ends in a slash; `query` has one value for each name.
    `csrf` is name and value of the hidden field that the framework wants with each POST, and the
    framework has looked at it before a POST comes here.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    base: str = "/"
    csrf: tuple[str, str] = ("csrf", "")


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: status, header fields that hold no line break, and the body in pieces."""

    status: int
    headers: Mapping[str, str]
    body: Iterable[bytes]

    @classmethod
    def of(
        cls, content_type: str, body: bytes | Iterable[bytes], policy: str = FILE_POLICY,
        status: int = 200, **headers: str,
    ) -> Self:  # fmt: skip
        """A response with the fields that keep hostile content harmless."""
        fields = {"Content-Type": content_type, "Content-Security-Policy": policy, **_COMMON}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, fields, (body,) if isinstance(body, bytes) else body)

    @classmethod
    def page(cls, html: Safe, status: int = 200) -> Self:
        """A page of the mailbox."""
        return cls.of(
            "text/html; charset=utf-8", html.encode("utf-8", "replace"), PAGE_POLICY, status
        )

    @classmethod
    def json(cls, data: Any, status: int = 200) -> Self:
        """Data for programs."""
        return cls.of("application/json", json.dumps(data).encode(), status=status)

    @classmethod
    def redirect(cls, location: str) -> Self:
        """To another page of the mailbox, which is asked for with GET."""
        return cls.of("text/plain", b"", status=303, Location=location)

    @classmethod
    def download(cls, name: str, content_type: str, body: bytes | Iterable[bytes]) -> Self:
        """A file to be saved, not shown. RFC 6266: the name in ASCII, and as it is."""
        plain = "".join(c if c.isalnum() or c in "-_. " else "_" for c in _ascii(name))
        encoded = quote(name, safe="", errors="replace")
        value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
        return cls.of(content_type, body, Content_Disposition=value)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode().replace("?", "_")


class Safe(str):
    """HTML that is what it should be; any other text is escaped by `fill`."""

    __slots__ = ()

    def __add__(self, other: str) -> Safe:
        return Safe(str(self) + _escaped(other))


def fill(template: str, **values: object) -> Safe:
    """`template` with each ``{name}`` replaced by the value, escaped unless it is Safe."""
    return Safe(template.format_map({name: _escaped(value) for name, value in values.items()}))


def join(pieces: Iterable[Safe]) -> Safe:
    """The pieces, one after the other."""
    return Safe("".join(pieces))


def _escaped(value: object) -> str:
    return value if isinstance(value, Safe) else escape(str(value), quote=True)
