"""The public names: `__all__` is what the package defines, and each says what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import smtplib
import subprocess
import sys
from enum import Enum
from types import ModuleType

import pytest

import mailbridge
import mailbridge.testing

NAMES = mailbridge.__all__


def test_the_list_is_what_the_package_defines() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert set(mailbridge._HOMES) <= set(NAMES)
    defined = {
        name
        for name, value in vars(mailbridge).items()
        if not (name.startswith("_") or isinstance(value, ModuleType))
    }
    assert defined - set(NAMES) == {"TYPE_CHECKING", "import_module"}
    assert set(NAMES) <= set(dir(mailbridge))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_loaded_when_it_is_asked_for(name: str) -> None:
    """Where it is looked for is where the type checkers are told that it is."""
    source = ast.parse(inspect.getsource(mailbridge))
    told = {
        (alias.name, node.module)
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    home = mailbridge._HOMES.get(name, "errors")
    assert (name, home) in told
    assert getattr(mailbridge, name) is getattr(importlib.import_module(f"mailbridge.{home}"), name)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'mailbridge' has no attribute 'SMPT'"):
        mailbridge.SMPT
    assert not hasattr(mailbridge, "SMPT")


def test_smtplibs_names_are_here() -> None:
    assert set(smtplib.__all__) <= set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, *mailbridge.testing.__all__])
def test_every_name_is_documented(name: str) -> None:
    thing = getattr(mailbridge, name, None) or getattr(mailbridge.testing, name)
    doc = inspect.getdoc(thing)
    assert doc
    assert "Args:" not in doc


def public_methods() -> list[tuple[str, object]]:
    found = []
    for name in (*NAMES, *mailbridge.testing.__all__):
        cls = getattr(mailbridge, name, None) or getattr(mailbridge.testing, name)
        if inspect.isclass(cls):
            for method, value in vars(cls).items():
                if not method.startswith("_") and (
                    inspect.isfunction(value) or isinstance(value, (property, classmethod))
                ):
                    found.append((f"{name}.{method}", getattr(cls, method)))
    return found


@pytest.mark.parametrize(
    ("name", "method"), public_methods(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_method_is_documented(name: str, method: object) -> None:
    assert inspect.getdoc(method), name


@pytest.mark.parametrize("name", NAMES)
def test_every_name_imports_from_the_top(name: str) -> None:
    thing = getattr(mailbridge, name)
    if inspect.isclass(thing) and issubclass(thing, Enum):
        assert all(str(member) == member.value for member in thing)


def test_every_error_is_in_the_list() -> None:
    from mailbridge import errors

    public = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert public <= set(NAMES)


def test_importing_every_module_warns_of_nothing() -> None:
    modules = [
        module.name
        for module in pkgutil.walk_packages(mailbridge.__path__, "mailbridge.")
        if not module.name.endswith("__main__")
    ]
    for name in modules:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as missing:
            assert not (missing.name or "").startswith("mailbridge"), name  # noqa: PT017


def test_the_import_is_light() -> None:
    code = "import mailbridge, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"django", "flask", "idna", "trustme", "pytest", "dkim", "scramp"}
    assert {name for name in loaded if name.startswith("mailbridge")} == {"mailbridge"}
    assert not loaded & {"asyncio", "smtplib", "ssl", "email"}


def test_one_session_loads_neither_transport_nor_pool() -> None:
    code = "from mailbridge import SMTP; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"django", "flask", "idna", "trustme", "pytest", "dkim", "scramp"}
    assert not loaded & {"asyncio", "mailbridge.sync.transport", "mailbridge.sync.pool"}


def test_a_transport_loads_nothing_that_few_mails_need() -> None:
    code = "from mailbridge import Transport; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    rare = {"dkim", "esmtp", "mailbox", "rewriting", "windowed", "probe", "outbox", "preview"}
    assert not loaded & {f"mailbridge.{name}" for name in rare}
    assert not loaded & {"asyncio", "difflib", "email.policy", "json", "pkgutil", "tempfile"}
