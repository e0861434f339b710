"""The mailbox in a real browser, with real clicks. Debian: chromium, chromium-driver."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from werkzeug.serving import make_server

from mailbridge_flask import Attachment, Mail, Message
from mailbridge_flask.preview import blueprint

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EVIL = "<script>parent.document.title='pwned';document.title='pwned'</script><h1>Hello</h1>"
REMOTE = "<img src='{url}spy.png'><meta http-equiv=refresh content='0;url={url}spy'>"
mail = Mail()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        text = "needs Debian's packages chromium and chromium-driver"
        pytest.fail(text) if os.environ.get("CI") == "true" else pytest.skip(text)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("window-size=1200,800", f"user-data-dir={tmp_path_factory.mktemp('profile')}"),
    ):
        options.add_argument(f"--{argument}")
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


class Site:
    """An application with the mailbox, and what it was asked for."""

    def __init__(self, app: Flask, url: str) -> None:
        self.app, self.url, self.asked = app, url, []  # type: ignore[var-annotated]

    def send(self, subject: str, **parts: Any) -> None:
        with self.app.app_context():
            mail.send(Message(subject, recipients=["b@example.org"], **parts))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    app = Flask(__name__, instance_path=str(tmp_path))
    app.debug = True
    app.config.update(MAIL_OUTBOX=True, MAIL_DEFAULT_SENDER="a@example.org")
    mail.init_app(app)
    app.register_blueprint(blueprint, url_prefix="/mail")
    with make_server("127.0.0.1", 0, app, threaded=True) as server:
        found = Site(app, f"http://127.0.0.1:{server.server_port}/")

        @app.before_request
        def note() -> None:
            from flask import request

            found.asked.append(request.path)

        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def wait(browser: webdriver.Chrome, condition: Any) -> Any:
    return WebDriverWait(browser, 15, 0.05).until(condition)


def subjects(browser: webdriver.Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#list .what')].map(e => e.textContent)"
    return browser.execute_script(script)


def test_a_message_is_found_read_and_deleted(browser: webdriver.Chrome, site: Site) -> None:
    site.send("Apples", body="about apples")
    site.send("Pears", body="about pears", html="<h1>Pears!</h1>")
    browser.get(site.url + "mail/")
    assert subjects(browser) == ["Pears", "Apples"]
    browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("pear")
    wait(browser, lambda b: subjects(b) == ["Pears"])
    browser.find_element(By.CSS_SELECTOR, "#list .row").click()
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "iframe"))
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe"))
    assert browser.find_element(By.TAG_NAME, "h1").text == "Pears!"
    browser.switch_to.default_content()
    browser.find_element(By.LINK_TEXT, "Text").click()
    wait(browser, lambda b: "about pears" in b.find_element(By.TAG_NAME, "main").text)
    browser.find_element(By.XPATH, "//button[.='Delete']").click()
    wait(browser, lambda b: subjects(b) == ["Apples"])


def test_new_mail_appears_by_itself(browser: webdriver.Chrome, site: Site) -> None:
    browser.get(site.url + "mail/")
    assert subjects(browser) == []
    site.send("Fresh", body="x")
    wait(browser, lambda b: subjects(b) == ["Fresh"])
    assert browser.find_element(By.ID, "total").text == "1"


def test_clear_asks_first(browser: webdriver.Chrome, site: Site) -> None:
    site.send("One", body="x")
    browser.get(site.url + "mail/")
    browser.find_element(By.XPATH, "//button[.='Clear']").click()
    wait(browser, lambda b: b.switch_to.alert).dismiss()
    assert subjects(browser) == ["One"]
    browser.find_element(By.XPATH, "//button[.='Clear']").click()
    wait(browser, lambda b: b.switch_to.alert).accept()
    wait(browser, lambda b: subjects(b) == [])


def test_hostile_html_runs_nothing_and_loads_nothing(browser: webdriver.Chrome, site: Site) -> None:
    evil = EVIL + REMOTE.format(url=site.url)
    site.send(EVIL, body=EVIL, html=evil, attachments=[Attachment("../x.html", "text/html", b"x")])
    browser.get(site.url + "mail/")
    browser.find_element(By.CSS_SELECTOR, "#list .row").click()
    frame = wait(browser, lambda b: b.find_element(By.CSS_SELECTOR, "iframe"))
    browser.switch_to.frame(frame)
    wait(browser, lambda b: b.find_element(By.TAG_NAME, "h1").text == "Hello")
    browser.switch_to.default_content()
    assert "pwned" not in browser.title.replace("'pwned'", "")
    assert not [path for path in site.asked if "spy" in path]
    browser.find_element(By.LINK_TEXT, "Load them").click()
    wait(browser, lambda b: "/spy.png" in site.asked)
    assert "/spy" not in site.asked


def test_keys_move_through_the_list(browser: webdriver.Chrome, site: Site) -> None:
    for subject in ("One", "Two"):
        site.send(subject, body=f"text of {subject}")
    browser.get(site.url + "mail/")
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys("j")
    browser.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait(browser, lambda b: "text of One" in b.find_element(By.TAG_NAME, "main").text)
