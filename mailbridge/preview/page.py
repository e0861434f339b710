"""The pages as HTML. Every text goes through `fill`, which escapes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from typing import Any
from urllib.parse import quote, urlencode

from ..outbox import Captured, Reading
from .registry import Preview
from .values import Request, Safe, fill, join

_SOURCE = 512 * 1024
_VIEWS = {"html": "HTML", "text": "Text", "headers": "Headers", "source": "Source"}
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="stylesheet" href="{base}static/mailbox.css">
<script src="{base}static/mailbox.js" defer></script>
</head>
<body class="{kind}" data-base="{base}" data-token="{token}" data-chosen="{chosen}">
<a class="skip" href="#reading">Skip to the message</a>
<aside aria-label="Messages">
<header class="bar">
<h1><a href="{base}">Mailbox</a> <span id="total" class="count">{total}</span></h1>
<form method="post" action="{base}clear" data-confirm="Delete all messages?">{csrf}
<button class="quiet" {nothing}>Clear</button></form>
</header>
<form class="search" role="search" action="{base}">
<input type="search" name="q" value="{query}" placeholder="Search" aria-label="Search messages"
 autocomplete="off"></form>
<nav id="list" aria-label="Captured messages">{rows}</nav>
{previews}
<p class="visually-hidden" role="status" id="status"></p>
</aside>
<main id="reading" tabindex="-1">{main}</main>
</body>
</html>
"""
_ROW = """<a class="row" href="{href}"{current}>
<span class="who">{who}</span><time datetime="{iso}" title="{iso}">{time}</time>
<span class="what">{subject}</span>{badge}
<span class="snippet">{snippet}</span></a>
"""
_MESSAGE = """<article>
<a class="back" href="{base}{search}">‹ Messages</a>
<header class="head">
<div class="title"><h2>{subject}</h2><div class="actions">{actions}</div></div>
<dl class="fields">{fields}</dl>
</header>
{report}
<nav class="tabs" aria-label="Views of the message">{tabs}</nav>
{body}
{attachments}
</article>
"""


@dataclass(frozen=True, slots=True)
class List:
    """The left side: what was found, of how many, and which one is open."""

    request: Request
    entries: Sequence[Captured]
    total: int
    query: str
    token: str
    previews: Sequence[Preview]
    chosen: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A message that is open: captured, or made by a preview. `path` is where it is."""

    captured: Captured
    content: bytes
    path: str
    preview: Preview | None = None
    languages: Sequence[tuple[str, str]] = ()
    language: str = ""


def listing(listed: List) -> Safe:
    """The list with nothing open."""
    if listed.total:
        main = Safe('<div class="empty"><p>Choose a message to read it.</p></div>')
    else:
        main = Safe(
            '<div class="empty"><h2>No mail yet</h2>'
            "<p>What the application sends appears here, without a reload.</p></div>"
        )
    return _shell(listed, "Mailbox", "list", main)


def missing(listed: List) -> Safe:
    """For what is not there, or not any more."""
    return _shell(listed, "Not found", "open", fill(
        '<div class="empty"><h2>Not found</h2><p>It may have been deleted. '
        '<a href="{base}">All messages</a></p></div>', base=listed.request.base))  # fmt: skip


def failed(listed: List, preview: Preview, error: Exception) -> Safe:
    """A preview that raised."""
    return _shell(listed, preview.name, "open", fill(
        '<div class="empty"><h2>{name} cannot be shown</h2><p>The preview raised'
        ' {kind}:</p><pre>{error}</pre><a class="back" href="{base}">‹ Messages</a></div>',
        base=listed.request.base, name=preview.name, kind=type(error).__name__,
        error=str(error)[:2000]))  # fmt: skip


def _shell(listed: List, title: str, kind: str, main: Safe) -> Safe:
    request = listed.request
    return fill(
        _SHELL, title=title, base=request.base, kind=kind, token=listed.token, main=main,
        chosen=listed.chosen, total=listed.total, csrf=_csrf(request), query=listed.query,
        rows=rows(listed), previews=_previews(listed),
        nothing=Safe("" if listed.total else "disabled"),
    )  # fmt: skip


def _csrf(request: Request) -> Safe:
    name, value = request.csrf
    return fill('<input type="hidden" name="{name}" value="{value}">', name=name, value=value)


def _link(listed: List, path: str, **query: str) -> str:
    given = {"q": listed.query, **query}
    text = urlencode({name: value for name, value in given.items() if value})
    return listed.request.base + quote(path) + (f"?{text}" if text else "")


def rows(listed: List) -> Safe:
    """The list of messages; the script puts it in again when something has changed."""
    if not listed.entries:
        return Safe('<p class="none">Nothing found.</p>' if listed.total else "")
    return join(_row(listed, each) for each in listed.entries)


def _row(listed: List, each: Captured) -> Safe:
    at = datetime.fromtimestamp(each.at, UTC).astimezone()
    badge = Safe("")
    if each.trouble:
        badge = fill('<span class="badge bad">{n} not reached</span>', n=each.trouble)
    elif each.report is not None:
        badge = Safe('<span class="badge good">sent</span>')
    return fill(
        _ROW, href=_link(listed, f"{each.id}/"), current=_current(each.id == listed.chosen),
        who=_people(each), iso=at.isoformat(timespec="seconds"), time=_when(at),
        subject=each.subject or "(no subject)", badge=badge, snippet=each.snippet[:160],
    )  # fmt: skip


def _people(each: Captured) -> str:
    name, address = parseaddr(each.to)
    first = name or address or (each.recipients[0] if each.recipients else "nobody")
    more = len(each.recipients) - 1
    return f"{first} +{more}" if more > 0 else first


def _when(at: datetime) -> str:
    today = datetime.now(UTC).astimezone().date()
    return f"{at:%H:%M}" if at.date() == today else f"{at:%d %b}"


def _current(yes: bool) -> Safe:
    return Safe(' aria-current="true"' if yes else "")


def _previews(listed: List) -> Safe:
    if not listed.previews:
        return Safe("")
    links = join(
        fill(
            '<a class="row" href="{href}"{current}><span class="what">{name}</span>'
            '<span class="snippet">{about}</span></a>',
            href=_link(listed, f"previews/{each.slug}/"), name=each.name, about=each.about,
            current=_current(f"previews/{each.slug}" == listed.chosen),
        )
        for each in listed.previews
    )  # fmt: skip
    return fill('<h2 class="section">Previews</h2><nav aria-label="Previews">{links}</nav>',
                links=links)  # fmt: skip


# -- one message


def message(listed: List, opened: Opened, reading: Reading) -> Safe:
    """A message beside the list."""
    views = _views(reading)
    asked = listed.request.query.get("view", "")
    view = asked if asked in views else views[0]
    subject = opened.captured.subject or "(no subject)"
    main = fill(
        _MESSAGE, base=listed.request.base, subject=subject, actions=_actions(listed, opened),
        search=f"?{urlencode({'q': listed.query})}" if listed.query else "",
        fields=_fields(opened.captured, reading), report=_report(opened.captured.report),
        tabs=_tabs(listed, opened, views, view), body=_body(listed, opened, reading, view),
        attachments=_attachments(listed, opened, reading),
    )  # fmt: skip
    return _shell(listed, subject, "open", main)


def plain(reading: Reading) -> dict[str, Any]:
    """What is in the message, for JSON."""
    return {
        "headers": [list(pair) for pair in reading.headers],
        "text": reading.text,
        "html": reading.html,
        "attachments": [
            {"number": p.number, "name": p.safe_name, "type": p.content_type, "size": len(p.data)}
            for p in reading.attachments
        ],
    }


def _views(reading: Reading) -> list[str]:
    there = {"html": reading.html is not None, "text": reading.text is not None}
    return [view for view in _VIEWS if there.get(view, True)]


def _query(opened: Opened, **query: str) -> dict[str, str]:
    return {"lang": opened.language, **query}


def _tabs(listed: List, opened: Opened, views: list[str], view: str) -> Safe:
    return join(
        fill('<a href="{href}"{current}>{label}</a>', label=_VIEWS[each],
             href=_link(listed, opened.path, **_query(opened, view=each)),
             current=_current(each == view))
        for each in views
    )  # fmt: skip


def _actions(listed: List, opened: Opened) -> Safe:
    request = listed.request
    save = fill('<a class="quiet" href="{href}">Download</a>',
                href=_link(listed, f"{opened.path}raw", **_query(opened)))  # fmt: skip
    if opened.preview is None:
        return save + fill(
            '<form method="post" action="{base}{path}delete">{csrf}<button class="quiet danger">'
            "Delete</button></form>", base=request.base, path=opened.path, csrf=_csrf(request),
        )  # fmt: skip
    if not opened.languages:
        return save
    options = join(
        fill('<option value="{code}"{chosen}>{name}</option>', code=code, name=name,
             chosen=Safe(" selected" if code == opened.language else ""))
        for code, name in (("", "Default language"), *opened.languages)
    )  # fmt: skip
    return fill(
        '<form action="{path}" class="language"><select name="lang" aria-label="Language">'
        '{options}</select><button class="quiet">Show</button></form>{save}',
        path=request.base + opened.path, options=options, save=save,
    )  # fmt: skip


def _fields(captured: Captured, reading: Reading) -> Safe:
    """What the header says, and what the envelope says beside it."""
    shown = [(n, reading.header(n)) for n in ("From", "To", "Cc", "Reply-To", "Date")]
    pairs = [(name, value) for name, value in shown if value]
    envelope = f"{captured.sender or '<>'} → {', '.join(captured.recipients)}"
    return join(
        fill("<div><dt>{name}</dt><dd>{value}</dd></div>", name=name, value=value)
        for name, value in (*pairs, ("Envelope", envelope))
    )


def _report(report: dict[str, Any] | None) -> Safe:
    if report is None:
        return Safe("")
    results = report["recipients"]
    reached = sum(result["state"] == "accepted" for result in results.values())
    lines = join(
        fill(
            '<li><span class="badge {kind}">{state}</span>'
            "<div><b>{address}</b> <span>{text}</span></div></li>",
            kind="good" if result["state"] == "accepted" else "bad", address=address,
            state=result["state"].replace("_", " "), text=_said(result),
        )
        for address, result in results.items()
    )  # fmt: skip
    said = report["error"] or report["reply"] or ""
    changes = "; ".join(report.get("changes", ()))
    return fill(
        '<section class="report{bad}" aria-label="Delivery report"><h3>{reached} of {all} reached'
        " <small>through {relay}</small></h3><ul>{lines}</ul><p>{said}</p>"
        "<p>{changes}</p></section>",
        bad="" if reached == len(results) else " bad", reached=reached, all=len(results),
        relay=report["relay"] or "no relay", lines=lines, said=said,
        changes=f"Changed for this server: {changes}" if changes else "",
    )  # fmt: skip


def _said(result: dict[str, Any]) -> str:
    return " ".join(str(s) for s in (result["code"], result["text"]) if s and s != "None")


def _body(listed: List, opened: Opened, reading: Reading, view: str) -> Safe:
    if view == "html":
        return _frame(listed, opened, reading)
    if view == "text":
        return fill('<pre class="text" tabindex="0">{text}</pre>', text=reading.text)
    if view == "headers":
        lines = join(fill("<tr><th scope=row>{n}</th><td>{v}</td></tr>", n=n, v=v)
                     for n, v in reading.headers)  # fmt: skip
        return fill('<table class="headers">{lines}</table>', lines=lines)
    source = opened.content[:_SOURCE].decode("utf-8", "replace")
    rest = "" if len(opened.content) <= _SOURCE else "… download it to see the rest."
    return fill('<pre class="source" tabindex="0">{source}</pre><p class="note">{rest}</p>',
                source=source, rest=rest)  # fmt: skip


def _frame(listed: List, opened: Opened, reading: Reading) -> Safe:
    remote = listed.request.query.get("remote") == "1"
    note = Safe("")
    if reading.has_remote and not remote:
        note = fill(
            '<p class="note">Images from elsewhere are not loaded.'
            ' <a href="{href}">Load them</a></p>',
            href=_link(listed, opened.path, **_query(opened, view="html", remote="1")))  # fmt: skip
    path = _link(listed, f"{opened.path}html", **_query(opened, remote="1" if remote else ""))
    return note + fill(
        '<iframe class="mail" title="The message as HTML" src="{path}" referrerpolicy="no-referrer"'
        ' sandbox="allow-popups allow-popups-to-escape-sandbox"></iframe>', path=path)  # fmt: skip


def _attachments(listed: List, opened: Opened, reading: Reading) -> Safe:
    if not reading.complete:
        return Safe('<p class="note">This message could not be taken apart: it is too large or'
                    " too odd. Download it to see all of it.</p>")  # fmt: skip
    if not reading.attachments:
        return Safe("")
    items = join(
        fill('<li><a href="{href}" download>{name}</a> <small>{kind}, {size}</small></li>',
             href=_link(listed, f"{opened.path}part/{part.number}", **_query(opened)),
             name=part.safe_name, kind=part.content_type, size=_size(len(part.data)))
        for part in reading.attachments
    )  # fmt: skip
    return fill('<section class="files" aria-label="Attachments"><ul>{items}</ul></section>',
                items=items)  # fmt: skip


def _size(octets: int) -> str:
    if octets < 1024:
        return f"{octets} B"
    return f"{octets / 1024:.0f} KB" if octets < 1024**2 else f"{octets / 1024**2:.1f} MB"
