"""The mailbox as a small site: which request gets which response."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from ..envelope import Envelope
from ..outbox import Captured, Outbox, Reading
from ..outbox.reading import MAX_PARSED
from . import page, registry
from .values import MAIL_POLICY, Request, Response

_STATIC = {"mailbox.css": "text/css; charset=utf-8", "mailbox.js": "text/javascript; charset=utf-8"}
_CHUNK = 64 * 1024


def _no_translation(language: str) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True)
class Mailbox:
    """Shows an outbox, and previews beside it.

    `to_mail` turns what a preview returns into envelope and content; `translated` is a context in
    which messages are made in a language, of which `languages` lists codes and names.
    """

    outbox: Outbox
    to_mail: Callable[[Any], tuple[Envelope, bytes]]
    languages: Sequence[tuple[str, str]] = ()
    translated: Callable[[str], AbstractContextManager[object]] = _no_translation

    def respond(self, request: Request) -> Response:
        """The response to a request that is allowed, and that passed the check against CSRF."""
        match request.method, request.path.split("/"):
            case "GET" | "HEAD", [""]:
                return Response.page(page.listing(self._list(request)))
            case "GET" | "HEAD", ["static", name] if name in _STATIC:
                return Response.of(_STATIC[name], _static(name))
            case "GET" | "HEAD", ["api", "messages"]:
                return self._api(request)
            case "GET" | "HEAD", ["api", "messages", name]:
                return self._api_message(name)
            case "GET" | "HEAD", ["previews", slug, *rest]:
                return self._preview(request, slug, "/".join(rest))
            case "GET" | "HEAD", [name, *rest]:
                return self._message(request, name, "/".join(rest))
            case "POST", ["clear"]:
                self.outbox.delete([each.id for each in self.outbox.entries()])
                return Response.redirect(request.base)
            case "POST", [name, "delete"] if self.outbox.get(name) is not None:
                self.outbox.delete([name])
                return Response.redirect(request.base)
        return self._missing(request)

    def _list(self, request: Request, chosen: str = "") -> page.List:
        query = request.query.get("q", "")[:200]
        token = self.outbox.token()
        entries = self.outbox.entries()
        found = [each for each in entries if each.matches(query)] if query.strip() else entries
        return page.List(request, found, len(entries), query, token, registry.previews(), chosen)

    def _missing(self, request: Request) -> Response:
        return Response.page(page.missing(self._list(request)), 404)

    def _api(self, request: Request) -> Response:
        token = self.outbox.token()
        if request.query.get("since") == token:
            return Response.json({"token": token, "changed": False})
        listed = self._list(request, request.query.get("chosen", ""))
        return Response.json(
            {
                "token": token,
                "changed": True,
                "total": listed.total,
                "messages": [each.to_dict() for each in listed.entries],
                "html": page.rows(listed),
            }
        )

    def _api_message(self, name: str) -> Response:
        captured = self.outbox.get(name)
        content = self._content(name)
        if captured is None or content is None:
            return Response.json({"error": "there is no such message"}, 404)
        return Response.json(captured.to_dict() | page.plain(Reading.of(content)))

    def _content(self, name: str) -> bytes | None:
        file = self.outbox.open(name)
        if file is None:
            return None
        with file:
            # One octet more than is taken apart, so that what is too large is seen to be so.
            return file.read(MAX_PARSED + 1)

    def _message(self, request: Request, name: str, rest: str) -> Response:
        captured = self.outbox.get(name)
        if captured is not None and rest == "raw":
            file = self.outbox.open(name)
            if file is not None:
                return Response.download(f"{name}.eml", "message/rfc822", _pieces(file))
        content = None if captured is None else self._content(name)
        if captured is None or content is None:
            return self._missing(request)
        listed = self._list(request, name)
        return self._show(request, listed, page.Opened(captured, content, f"{name}/"), rest)

    def _preview(self, request: Request, slug: str, rest: str) -> Response:
        found = registry.find(slug)
        if found is None:
            return self._missing(request)
        asked = request.query.get("lang", "")
        language = asked if asked in dict(self.languages) else ""
        listed = self._list(request, f"previews/{slug}")
        try:
            with self.translated(language) if language else nullcontext():
                envelope, content = self.to_mail(found.function())
        except Exception as exc:  # Whatever it is, its author wants to see it.
            return Response.page(page.failed(listed, found, exc), 500)
        captured = Captured.of(envelope, content, slug)
        opened = page.Opened(
            captured, content, f"previews/{slug}/", found, tuple(self.languages), language
        )
        if rest == "raw":
            return Response.download(f"{slug}.eml", "message/rfc822", content)
        return self._show(request, listed, opened, rest)

    def _show(
        self, request: Request, listed: page.List, opened: page.Opened, rest: str
    ) -> Response:
        reading = Reading.of(opened.content)
        match rest.split("/"):
            case [""]:
                return Response.page(page.message(listed, opened, reading))
            case ["html"] if reading.html is not None:
                remote = " https: http:" if request.query.get("remote") == "1" else ""
                html = f'<!doctype html><base target="_blank">{reading.inlined()}'
                return Response.of(
                    "text/html; charset=utf-8",
                    html.encode("utf-8", "replace"),
                    MAIL_POLICY.format(remote=remote),
                    Referrer_Policy="no-referrer",
                )
            case ["part", number]:
                for part in reading.parts:
                    if str(part.number) == number:
                        return Response.download(
                            part.safe_name, "application/octet-stream", part.data
                        )
        return self._missing(request)


@cache
def _static(name: str) -> bytes:
    return (Path(__file__).parent / "static" / name).read_bytes()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece
