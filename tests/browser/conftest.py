"""Chromium, and sites to look at with it. Debian: chromium, chromium-driver."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver

from mailbridge.preview import registry
from mailbridge.testing import ScriptedServer
from tests.browser.sites import SITES, Site
from tests.django_settings import configure

configure()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
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
    # Chromium makes a socket in TMPDIR, whose path must stay under 108 bytes.
    env = {**os.environ, "TMPDIR": "/tmp"}
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"), env=env)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """A desktop browser in the light; what a test emulates ends with it."""
    yield chromium
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.fixture(params=SITES)
def site(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """The same page and the same store, in each framework."""
    monkeypatch.setattr(registry, "_known", {})
    with ScriptedServer() as smtpd:
        made = SITES[request.param](tmp_path, smtpd)
        with made.served():
            yield made
