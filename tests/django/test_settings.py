"""Settings of mail are read in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mailbridge_django
from mailbridge_django.settings import is_of_mail

PACKAGE = Path(mailbridge_django.__file__).parent
# How a message is written is not about who sends it.
OF_MESSAGES = {"EMAIL_USE_LOCALTIME"}


def read(path: Path) -> Iterator[str]:
    """The names that a module reads of `django.conf.settings`."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        match node:
            case ast.Attribute(ast.Name("settings"), name):
                yield name
            case ast.Call(ast.Name("getattr"), [ast.Name("settings"), ast.Constant(name), *_]):
                yield str(name)


def test_nobody_else_reads_them() -> None:
    found = {
        path.name: names
        for path in PACKAGE.rglob("*.py")
        # For tests that one puts others in their place.
        if path.name not in ("settings.py", "testing.py")
        and (names := set(filter(is_of_mail, read(path))) - OF_MESSAGES)
    }
    assert found == {}, "read these in mailbridge_django/settings.py"


def test_the_place_does() -> None:
    text = (PACKAGE / "settings.py").read_text("utf-8")
    for name in ("MAILBRIDGE_MAILERS", "MAILBRIDGE_OUTBOX", "MAILBRIDGE_PREVIEW_ALLOWED"):
        assert name in text
