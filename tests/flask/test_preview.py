"""The mailbox page beside Flask-Babel (languages) and Flask-WTF (its CSRF protection)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from flask import Flask, request
from flask_babel import Babel, gettext, lazy_gettext
from flask_wtf import CSRFProtect

from mailbridge.preview import registry
from mailbridge_flask import Mail, Message
from mailbridge_flask.preview import blueprint, preview

WORDS = {"de": {"Welcome": "Willkommen", "Hello, %(name)s": "Guten Tag, %(name)s"}}


@pytest.fixture(autouse=True)
def _previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """No preview of another test's."""
    monkeypatch.setattr(registry, "_known", {})


@pytest.fixture
def translations(tmp_path: Path) -> Path:
    for language, words in WORDS.items():
        catalog = Catalog(language)
        for text, translation in words.items():
            catalog.add(text, translation)
        directory = tmp_path / "translations" / language / "LC_MESSAGES"
        directory.mkdir(parents=True)
        with (directory / "messages.mo").open("wb") as file:
            write_mo(file, catalog)
    return tmp_path / "translations"


def make(path: Path, **config: Any) -> Flask:
    app = Flask(__name__, instance_path=str(path))
    app.debug = True
    app.config.update(MAIL_OUTBOX=True, MAIL_DEFAULT_SENDER="a@example.org", **config)
    Mail(app)
    app.register_blueprint(blueprint, url_prefix="/mail")
    return app


@pytest.fixture
def babel_app(tmp_path: Path, translations: Path) -> Flask:
    app = make(tmp_path, BABEL_TRANSLATION_DIRECTORIES=str(translations))
    Babel(app, locale_selector=lambda: request.args.get("page_language"))
    return app


@pytest.fixture
def welcome() -> Iterator[Callable[[], Message]]:
    @preview("Welcome")
    def welcome() -> Message:
        body = gettext("Hello, %(name)s", name="Ann")
        return Message(lazy_gettext("Welcome"), ["ann@example.com"], body)

    return welcome


@pytest.mark.usefixtures("welcome")
def test_a_preview_in_each_language(babel_app: Flask) -> None:
    client = babel_app.test_client()
    english = client.get("/mail/previews/welcome/")
    german = client.get("/mail/previews/welcome/?lang=de")
    assert (english.status_code, german.status_code) == (200, 200)
    assert "Hello, Ann" in english.text
    assert "Willkommen" not in english.text
    assert "Willkommen" in german.text
    assert "Guten Tag, Ann" in german.text
    # The languages to choose from, by their own names.
    for name, code in (("Deutsch", "de"), ("English", "en")):
        assert name in english.text
        assert f'value="{code}"' in english.text


@pytest.mark.usefixtures("welcome")
def test_a_language_that_is_none_is_passed_over(babel_app: Flask) -> None:
    client = babel_app.test_client()
    for language in ("xx", "../../etc", "de_<script>", ""):
        page = client.get("/mail/previews/welcome/", query_string={"lang": language})
        assert page.status_code == 200
        assert "Hello, Ann" in page.text
        assert "<script>" not in page.text.replace("<script src", "")


@pytest.mark.usefixtures("welcome")
def test_the_language_is_that_of_one_request(babel_app: Flask) -> None:
    client = babel_app.test_client()
    assert "Guten Tag" in client.get("/mail/previews/welcome/?lang=de").text
    assert "Guten Tag" not in client.get("/mail/previews/welcome/").text


def test_flask_babel_without_an_application_of_its_own(tmp_path: Path) -> None:
    @preview
    def plain() -> Message:
        return Message("Plain", ["ann@example.com"], "Words")

    page = make(tmp_path).test_client().get("/mail/previews/plain/?lang=de")
    assert page.status_code == 200
    assert "Words" in page.text


# -- Flask-WTF


def test_csrf_protection_of_the_application(tmp_path: Path) -> None:
    app = make(tmp_path, SECRET_KEY="x")
    csrf = CSRFProtect(app)
    client = app.test_client()

    def cleared() -> int:
        client.get("/mail/")
        cookie = client.get_cookie("mailbridge_csrf", path="/mail/")
        assert cookie is not None
        return client.post("/mail/clear", data={"csrf": cookie.value}).status_code

    # Flask-WTF wants its own token, which the page does not have.
    assert cleared() == 400
    csrf.exempt(blueprint)
    assert cleared() == 303
    # The page's own token is wanted all the same.
    assert client.post("/mail/clear").status_code == 403
