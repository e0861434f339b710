"""The mailbox page without a framework: what is asked for, and what hostile mail cannot do."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from mailbridge import DeliveryReport, Envelope, RecipientResult, State
from mailbridge.outbox import MemoryOutbox
from mailbridge.preview import Mailbox, Request, Response, preview, registry

ROOT = Path(__file__).parent.parent
ENVELOPE = Envelope("a@example.org", ["b@example.org"])
EVIL = "<script>alert(1)</script>\"'&"


@pytest.fixture
def outbox() -> MemoryOutbox:
    return MemoryOutbox()


@pytest.fixture
def site(outbox: MemoryOutbox) -> Mailbox:
    return Mailbox(outbox, lambda mail: (ENVELOPE, mail.as_bytes()))


def mail(html: str | None = None, **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = headers.get("subject", "Hello")
    message["To"] = headers.get("to", "b@example.org")
    message.set_content(headers.get("text", "plain words"))
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


def get(site: Mailbox, path: str = "", **query: str) -> Response:
    return site.respond(Request("GET", path, query, "/mail/"))


def body(response: Response) -> str:
    return b"".join(response.body).decode()


def test_the_list_searches(site: Mailbox, outbox: MemoryOutbox) -> None:
    outbox.add(ENVELOPE, mail(subject="Apples").as_bytes())
    outbox.add(ENVELOPE, mail(subject="Pears", text="and quinces").as_bytes())
    assert "Apples" in body(get(site))
    found = body(get(site, q="QUINCES"))
    assert "Pears" in found
    assert "Apples" not in found


def test_every_view_escapes_what_the_message_says(site: Mailbox, outbox: MemoryOutbox) -> None:
    name = outbox.add(ENVELOPE, mail(html=EVIL, subject=EVIL, text=EVIL).as_bytes()).id
    result = RecipientResult("b@example.org", State.REFUSED, reason=EVIL)
    outbox.settle(name, DeliveryReport({"b@example.org": result}, relay=EVIL))
    pages = [
        body(get(site, f"{name}/", view=v, q=EVIL)) for v in ("html", "text", "headers", "source")
    ]
    for page in (*pages, body(get(site)), json.loads(body(get(site, "api/messages")))["html"]):
        assert "alert(1)" in page
        assert "<script>a" not in page


def test_the_report_tells_what_was_changed(site: Mailbox, outbox: MemoryOutbox) -> None:
    name = outbox.add(ENVELOPE, mail().as_bytes()).id
    report = DeliveryReport({"b@example.org": RecipientResult("b@example.org", State.ACCEPTED)})
    outbox.settle(name, report)
    assert "Changed" not in body(get(site, f"{name}/"))
    report.changes = ("text/plain written as quoted-printable", EVIL)
    outbox.settle(name, report)
    page = body(get(site, f"{name}/"))
    assert "Changed for this server: text/plain written as quoted-printable; " in page
    assert EVIL not in page


def test_html_is_served_under_a_policy_that_allows_nothing(
    site: Mailbox, outbox: MemoryOutbox
) -> None:
    html = '<img src="https://example.com/spy.png"><script>1</script>'
    name = outbox.add(ENVELOPE, mail(html=html).as_bytes()).id
    policy = get(site, f"{name}/html").headers["Content-Security-Policy"]
    assert "sandbox allow-popups" in policy
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert "http:" not in policy
    assert "Load them" in body(get(site, f"{name}/"))
    remote = get(site, f"{name}/html", remote="1").headers["Content-Security-Policy"]
    assert "img-src data: https: http:" in remote
    assert "script" not in remote.replace("allow-scripts", "x")


def test_inline_images_are_put_in_by_their_content_id(site: Mailbox, outbox: MemoryOutbox) -> None:
    message = mail(html='<img src="cid:logo"><img src="cid:page">')
    related = message.get_payload()[1]  # type: ignore[index]
    related.add_related(b"png", "image", "png", cid="<logo>")  # type: ignore[union-attr]
    related.add_related(b"<p>", "text", "html", cid="<page>")  # type: ignore[union-attr]
    name = outbox.add(ENVELOPE, message.as_bytes()).id
    html = body(get(site, f"{name}/html"))
    assert 'src="data:image/png;base64,cG5n"' in html
    assert 'src="cid:page"' in html


def test_an_attachment_is_saved_never_shown(site: Mailbox, outbox: MemoryOutbox) -> None:
    message = mail()
    message.add_attachment(b"<script>", "text", "html", filename='../x"\u20ac.html')
    name = outbox.add(ENVELOPE, message.as_bytes()).id
    response = get(site, f"{name}/part/1")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    disposition = response.headers["Content-Disposition"]
    assert disposition == "attachment; filename=\"x__.html\"; filename*=UTF-8''x_%E2%82%AC.html"
    assert body(response) == "<script>"


def test_no_header_field_holds_a_line_break(site: Mailbox, outbox: MemoryOutbox) -> None:
    content = (
        b"Subject: a\r\nContent-Type: text/plain\r\n"
        b"Content-Disposition: attachment; filename*=utf-8''a%0D%0ASet-Cookie%3A%20x\r\n\r\nx"
    )
    name = outbox.add(ENVELOPE, content).id
    for path in ("part/0", "raw", ""):
        assert not any(set("\r\n") & set(v) for v in get(site, f"{name}/{path}").headers.values())


@pytest.mark.parametrize(
    "path",
    ["nothing/", "../", "../../etc/passwd", "static/../site.py", "static/site.py", "previews/x/"],
)
def test_what_is_not_there_is_not_found(site: Mailbox, path: str) -> None:
    assert get(site, path).status == 404


def test_delete_and_clear_take_a_post(site: Mailbox, outbox: MemoryOutbox) -> None:
    names = [outbox.add(ENVELOPE, mail().as_bytes()).id for _ in range(3)]
    assert get(site, f"{names[0]}/delete").status == 404
    assert len(outbox.entries()) == 3
    response = site.respond(Request("POST", f"{names[0]}/delete", {}, "/mail/"))
    assert (response.status, response.headers["Location"]) == (303, "/mail/")
    assert len(outbox.entries()) == 2
    site.respond(Request("POST", "clear", {}, "/mail/"))
    assert outbox.entries() == []


def test_json_says_what_is_new(site: Mailbox, outbox: MemoryOutbox) -> None:
    name = outbox.add(ENVELOPE, mail(html="<b>x</b>").as_bytes()).id
    first = json.loads(body(get(site, "api/messages")))
    assert [each["id"] for each in first["messages"]] == [name]
    again = json.loads(body(get(site, "api/messages", since=first["token"])))
    assert again == {"token": first["token"], "changed": False}
    assert json.loads(body(get(site, f"api/messages/{name}")))["html"].strip() == "<b>x</b>"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(registry, "_known", found)
    return found


def test_a_preview_is_listed_and_shown_but_not_kept(
    site: Mailbox, outbox: MemoryOutbox, known: dict[str, Any]
) -> None:
    @preview("Welcome, new user")
    def welcome() -> EmailMessage:
        """After signing up."""
        return mail(html="<b>Hi</b>", subject="Welcome!")

    assert "After signing up." in body(get(site))
    assert "Welcome!" in body(get(site, "previews/welcome-new-user/"))
    assert "<b>Hi</b>" in body(get(site, "previews/welcome-new-user/html"))
    assert outbox.entries() == []


def test_a_preview_that_raises_says_so(site: Mailbox, known: dict[str, Any]) -> None:
    @preview
    def broken_one() -> EmailMessage:
        raise LookupError("<no template>")

    response = get(site, "previews/broken-one/")
    assert response.status == 500
    assert "LookupError" in (text := body(response))
    assert "&lt;no template&gt;" in text


def test_style_and_script_are_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=50)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {f"mailbridge/preview/static/mailbox.{kind}" for kind in ("css", "js")} <= set(names)
