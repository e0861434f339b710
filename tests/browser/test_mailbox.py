"""The mailbox in a real browser, with real clicks."""

from __future__ import annotations

from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.sites import Site

pytestmark = [pytest.mark.browser, pytest.mark.slow]
EVIL = "<script>parent.document.title='pwned';document.title='pwned'</script><h1>Hello</h1>"
REMOTE = "<img src='{url}spy.png'><meta http-equiv=refresh content='0;url={url}spy'>"


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
    site.send(EVIL, body=EVIL, html=evil, files=(("../x.html", "text/html", b"x"),))
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
