"""The reference is made from the code, and every option can be reached in both frameworks."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mailbridge import PoolOptions, Relay, RetryPolicy, Timeouts, Transport
from mailbridge.catalogue import OF_RELAY, OF_TRANSPORT, default_of
from mailbridge.options import OPTION_NAMES, TRANSPORT_OPTIONS
from mailbridge_django.conf import DJANGO_OPTIONS, OWN_OPTIONS
from mailbridge_flask.config import KNOWN, setting_of

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs.generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_every_option_is_described_once() -> None:
    assert sorted(option.name for option in OF_RELAY) == sorted(OPTION_NAMES)
    assert sorted(option.name for option in OF_TRANSPORT) == sorted(TRANSPORT_OPTIONS)


def test_a_default_is_the_code_s_own() -> None:
    defaults = {option.name: default_of(option) for option in (*OF_RELAY, *OF_TRANSPORT)}
    assert defaults["connect_timeout"] == f"{Timeouts().connect:g}"
    assert defaults["pool_timeout"] == f"{PoolOptions().wait_timeout:g}"
    assert defaults["retry_delay"] == f"{RetryPolicy().delay:g}"
    assert defaults["auth_pause"] == f"{Relay(host='h').auth_pause:g}"
    assert defaults["tls_verify"] == "true"
    assert defaults["lmtp"] == "false"
    assert defaults["fingerprint"] == defaults["username"] == "none"
    transport = Transport("smtp://h")
    assert defaults["on_refused"] == f"`{transport.on_refused}`"
    assert defaults["round_robin"] == str(transport.round_robin).lower()


def test_every_option_is_reachable_from_the_frameworks() -> None:
    every = OPTION_NAMES | TRANSPORT_OPTIONS
    assert OWN_OPTIONS | (DJANGO_OPTIONS.keys() & OPTION_NAMES) == every
    assert {setting_of(name) for name in every} <= KNOWN


def test_the_pages_are_what_the_code_says(generate: ModuleType) -> None:
    made = [page.relative_to(DOCS).as_posix() for page in generate.pages()]
    assert "reference/options.md" in made
    stale = [page for page in made if generate.generated(text_of(page)) != text_of(page)]
    assert stale == [], "run: python -m docs.generate"


def test_the_table_has_a_row_for_each_option(generate: ModuleType) -> None:
    page = text_of("reference/options.md")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(OPTION_NAMES | TRANSPORT_OPTIONS)
    assert {line.count(" | ") for line in generate.options()} == {5, 0}
    # What only Flask has is on the page as well.
    assert set(re.findall(r"`(MAIL_\w+)`", page)) >= KNOWN


def text_of(page: str) -> str:
    return (DOCS / page).read_text("utf-8")
