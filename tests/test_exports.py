"""The public names: `__all__` is what the package defines, and each says what it is."""

from __future__ import annotations

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
    defined = {
        name
        for name, value in vars(mailbridge).items()
        if not (name.startswith("_") or isinstance(value, ModuleType) or name == "TYPE_CHECKING")
    } | mailbridge._OF_ASYNCIO
    assert set(NAMES) == defined
    assert len(NAMES) == len(set(NAMES))


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
    assert "asyncio" not in loaded
