"""How the mailbox looks: at a phone's width, in the light and in the dark."""

from __future__ import annotations

from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from mailbridge.preview import preview
from tests.browser.sites import Site
from tests.browser.test_mailbox import subjects, wait

pytestmark = [pytest.mark.browser, pytest.mark.slow]
LONG = "Donaudampfschifffahrtsgesellschaftskapitänswitwenrentenauszahlung" * 2
WIDE = f"<table width=1400><tr><td>wide</td></tr></table><p>{LONG}</p>"
REFUSED = "gone.but.not.forgotten.by.her.colleagues@a-rather-long-domain-name.example.net"
FILE = (f"{LONG[:90]}.pdf", "application/pdf", b"%PDF")
VIEWS = ("html", "text", "headers", "source")

#: What sticks out on the right: elements, or the page itself.
STICKING_OUT = """
const wide = document.documentElement.clientWidth;
const shown = e => e.checkVisibility() && !e.closest('.visually-hidden, .skip');
return [
  ...[document.documentElement, document.querySelector('main'), document.querySelector('aside')]
    .filter(e => e.scrollWidth > e.clientWidth).map(e => `${e.tagName} scrolls sideways`),
  ...[...document.querySelectorAll('body *')]
    .filter(e => shown(e) && e.getBoundingClientRect().right > wide + 1)
    .map(e => `${e.tagName}.${e.className} ends at ${e.getBoundingClientRect().right}`),
];
"""
#: Texts whose colour and ground are too alike (WCAG 2.2, 1.4.3), with the ratio of the two.
FAINT = """
const rgb = text => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return { r, g, b, a };
};
const over = (top, below, a = top.a) =>
  Object.fromEntries(['r', 'g', 'b'].map(c => [c, top[c] * a + below[c] * (1 - a)]));
const ground = e => {
  if (!e) return matchMedia('(prefers-color-scheme: dark)').matches
    ? { r: 18, g: 18, b: 18 } : { r: 255, g: 255, b: 255 };
  return over(rgb(getComputedStyle(e).backgroundColor), ground(e.parentElement));
};
const opacity = e => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
const contrasts = (color, e) => {
  const below = ground(e), ink = rgb(color);
  return ratio(over(ink, below, ink.a * opacity(e)), below);
};
const light = ({ r, g, b }) => [r, g, b].map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
const ratio = (one, two) => {
  const [dim, bright] = [light(one), light(two)].sort((a, b) => a - b);
  return (bright + .05) / (dim + .05);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const seen = [], found = [];
const look = (text, e, part) => {
  const contrast = contrasts(getComputedStyle(e, part).color, e);
  seen.push(text);
  if (contrast < 4.5) found.push(`${text.slice(0, 40)}: ${contrast.toFixed(2)}`);
};
document.querySelectorAll('[placeholder]').forEach(e => look(e.placeholder, e, '::placeholder'));
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), e = walker.currentNode.parentElement;
  if (text && e.checkVisibility({ visibilityProperty: true })) look(text, e);
}
return [seen, found];
"""


def as_phone(browser: webdriver.Chrome) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})


def in_colours(browser: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def fill(site: Site) -> None:
    """One message that went well, and one that is too long in every way and was half refused."""
    site.smtpd.refuse(REFUSED, 550, f"5.1.1 No such user; see https://example.net/{LONG}")
    site.send("Welcome", "Hello, and welcome.")
    site.send(LONG, f"{LONG}\n" * 3, WIDE, to=f"b@example.org, {REFUSED}", files=(FILE,))

    @preview("Password reset")
    def password_reset() -> None:
        """When somebody has forgotten the password, which happens more often than one thinks."""


def open_first(browser: webdriver.Chrome, site: Site) -> str:
    browser.get(site.url + "mail/")
    browser.find_element(By.CSS_SELECTOR, "#list .row").click()
    wait(browser, lambda b: b.find_elements(By.CSS_SELECTOR, "article"))
    return browser.current_url


def shown(browser: webdriver.Chrome, selector: str) -> bool:
    return browser.find_element(By.CSS_SELECTOR, selector).is_displayed()


def test_a_phone_shows_the_list_or_the_message(browser: webdriver.Chrome, site: Site) -> None:
    as_phone(browser)
    fill(site)
    browser.get(site.url + "mail/")
    assert shown(browser, "aside")
    assert not shown(browser, "main")
    open_first(browser, site)
    assert not shown(browser, "aside")
    assert shown(browser, "main")
    browser.find_element(By.PARTIAL_LINK_TEXT, "Messages").click()
    wait(browser, lambda b: shown(b, "aside"))
    open_first(browser, site)
    browser.find_element(By.XPATH, "//button[.='Delete']").click()
    wait(browser, lambda b: subjects(b) == ["Welcome"])


def test_nothing_sticks_out_of_a_phone(browser: webdriver.Chrome, site: Site) -> None:
    as_phone(browser)
    fill(site)
    browser.get(site.url + "mail/")
    assert browser.execute_script(STICKING_OUT) == []
    url = open_first(browser, site)
    for view in VIEWS:
        browser.get(f"{url}?view={view}")
        assert browser.execute_script(STICKING_OUT) == [], view


def test_a_finger_finds_what_to_touch(browser: webdriver.Chrome, site: Site) -> None:
    as_phone(browser)
    fill(site)
    browser.get(site.url + "mail/")
    small = too_small(browser)
    open_first(browser, site)
    small += too_small(browser)
    browser.get(f"{site.url}mail/previews/password-reset/")
    assert small + too_small(browser) == []
    browser.find_element(By.PARTIAL_LINK_TEXT, "Messages").click()
    wait(browser, lambda b: shown(b, "aside"))


def too_small(browser: webdriver.Chrome) -> list[Any]:
    """What can be touched and is under 24 pixels high (WCAG 2.2, 2.5.8), outside of text."""
    elements = browser.find_elements(By.CSS_SELECTOR, "a:not(.skip, p a), button, input, select")
    visible = [each for each in elements if each.is_displayed()]
    assert visible
    return [(each.text, each.size) for each in visible if each.size["height"] < 24]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out(browser: webdriver.Chrome, site: Site, scheme: str) -> None:
    in_colours(browser, scheme)
    browser.get(site.url + "mail/")
    assert stands_out(browser, "No mail yet")
    fill(site)
    browser.get(site.url + "mail/")
    assert stands_out(browser, "1 not reached")
    url = open_first(browser, site)
    for view in VIEWS:
        browser.get(f"{url}?view={view}")
        assert stands_out(browser, "refused")
    browser.get(f"{site.url}mail/previews/password-reset/")
    assert stands_out(browser, "Password reset cannot be shown")


def stands_out(browser: webdriver.Chrome, text: str) -> bool:
    """True if that text is there, and no text is hard to read."""
    seen, faint = browser.execute_script(FAINT)
    assert faint == []
    return text in seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_dark_as_it_was_asked_to_be(
    browser: webdriver.Chrome, site: Site, scheme: str
) -> None:
    in_colours(browser, scheme)
    site.send("Hello", html="<p>Hello</p>")
    open_first(browser, site)
    ground = brightness(browser, "main", "background-color")
    assert ground > 200 if scheme == "light" else ground < 60
    # A message is written for a light ground, and keeps it.
    assert brightness(browser, "iframe.mail", "background-color") == 255
    browser.switch_to.frame(browser.find_element(By.CSS_SELECTOR, "iframe"))
    wait(browser, lambda b: b.find_elements(By.TAG_NAME, "p"))
    assert brightness(browser, "p", "color") < 60
    browser.switch_to.default_content()


def brightness(browser: webdriver.Chrome, selector: str, name: str) -> float:
    element = browser.find_element(By.CSS_SELECTOR, selector)
    text = element.value_of_css_property(name)
    numbers = [float(each) for each in text[text.index("(") + 1 : -1].split(",")]
    return sum(numbers[:3]) / 3
