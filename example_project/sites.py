"""Both sites in this process, each behind a small WSGI server, and a visitor of their form."""

import contextlib
import http.cookiejar
import logging
import os
import re
import socketserver
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Log(logging.Handler):
    """What the applications logged, so that the demo can show it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def last_error(self) -> BaseException | None:
        """The exception of the newest record."""
        info = self.records[-1].exc_info if self.records else None
        return info[1] if info else None


def environment(relay_port: int) -> dict[str, str]:
    """What tells both sites, and their commands, where the relay is."""
    return {
        "EMAIL_HOST": "127.0.0.1",
        "EMAIL_PORT": str(relay_port),
        "FLASK_MAIL_SERVER": "127.0.0.1",
        "FLASK_MAIL_PORT": str(relay_port),
    }


@contextlib.contextmanager
def serving(relay_port: int) -> Iterator[tuple[str, str, Log]]:
    """Serve both sites on loopback; yield their URLs and the log."""
    os.environ.update(environment(relay_port))
    # One mailbox for both sites and their commands, for as long as they are served.
    with tempfile.TemporaryDirectory(prefix="mailbridge-") as outbox:
        os.environ["MAIL_OUTBOX"] = os.environ["FLASK_MAIL_OUTBOX"] = outbox
        yield from _both()


def _both() -> Iterator[tuple[str, str, Log]]:
    from .django_site.wsgi import application as django_site
    from .flask_site import create_app

    log = Log()
    for name, handler in (("example_project", log), ("django", logging.NullHandler())):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    with (
        _served(django_site, int(os.environ.get("DJANGO_PORT", "0"))) as django_url,
        _served(create_app(), int(os.environ.get("FLASK_PORT", "0"))) as flask_url,
    ):
        yield django_url, flask_url, log


@contextlib.contextmanager
def _served(application, port: int) -> Iterator[str]:
    with make_server("127.0.0.1", port, application, _Server, _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class Page(NamedTuple):
    """What the visitor sees after sending the form."""

    status: int
    path: str
    heading: str
    told: str


def fill_in(url: str, email: str, text: str) -> Page:
    """Open the contact form with cookies, fill it in, send it, and follow the redirect."""
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    browser.open(url).close()
    fields = {"email": email, "text": text}
    for cookie in cookies:
        if cookie.name == "csrftoken":
            fields["csrfmiddlewaretoken"] = cookie.value or ""
    try:
        with browser.open(url, urllib.parse.urlencode(fields).encode()) as response:
            return _page(response.status, response.url, response.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return _page(error.code, error.url, error.read().decode())


def _page(status: int, url: str, html: str) -> Page:
    heading = re.search(r"<h1>(.*?)</h1>", html, re.DOTALL)
    told = re.search(r'id="told">(.*?)</(?:p|div)>', html, re.DOTALL)
    return Page(
        status,
        urllib.parse.urlsplit(url).path,
        _text(heading[1] if heading else ""),
        _text(told[1] if told else ""),
    )


def _text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
