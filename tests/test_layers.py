"""The rooms of the project: imports point downwards, files and functions stay small.

mailbridge_django    mailbridge_flask    cli    testing
                 probe
              sync  |  aio
      protocol  |  policy, message, dkim, outbox
        errors, envelope, report, options
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("mailbridge", "mailbridge_django", "mailbridge_flask")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# A room is the first part of a module's name below `mailbridge`. A file that is in no list yet
# belongs to the upper floor: it may use everything, and nothing below may use it.
VALUES = {"errors", "envelope", "report", "options"}
FUNCTIONS = {"protocol", "policy", "message", "dkim", "outbox"}
SOCKETS = {"sync", "aio"}
FLOORS = [VALUES, FUNCTIONS, SOCKETS, {"probe"}]

NO_IO = {"socket", "ssl", "asyncio", "threading", "time", "select", "selectors", "subprocess"}
FRAMEWORKS = {"django", "flask", "celery", "blinker", "mailbridge_django", "mailbridge_flask"}

LINES_OF_A_FILE = 350 * 1.1
LINES_OF_A_FUNCTION = 60


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute name) of everything that the file imports, wherever it does.

    ``from a import b`` yields ``a.b``, since b can be a module. What stands under ``if
    TYPE_CHECKING:`` counts too: a type is knowledge of the other room as well.
    """
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room(name: str) -> str | None:
    """Return the room of a module given by its dotted name; None for the root and for others."""
    package, _, rest = name.partition(".")
    inner = rest.split(".")[0]
    if package != "mailbridge" or not inner:
        return None
    is_module = (ROOT / "mailbridge" / inner).is_dir() or (ROOT / f"mailbridge/{inner}.py").exists()
    return inner if is_module else None


def floor(room: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), len(FLOORS))


def forbidden(path: Path) -> Iterator[str]:
    """Yield a sentence for each import that does not point downwards."""
    package, *parts = path.relative_to(ROOT).with_suffix("").parts
    here = parts[0]
    for line, name in imports(path):
        top = name.partition(".")[0]
        says = f"{path.relative_to(ROOT)}:{line} imports {name}"
        if package == "mailbridge":
            there = room(name)
            if top in FRAMEWORKS:
                yield f"{says}: the core knows no framework"
            if here == "protocol" and top in NO_IO:
                yield f"{says}: the protocol does no I/O"
            if here == "__init__":
                continue
            if top == "mailbridge" and there is None and floor(here) < len(FLOORS):
                yield f"{says}: the package itself imports everything"
            if there is not None and floor(there) > floor(here):
                yield f"{says}: {there} is above {here}"
            if here in SOCKETS and there in SOCKETS and here != there:
                yield f"{says}: sync and aio do not know each other"
        elif top in PACKAGES and top not in ("mailbridge", package):
            yield f"{says}: the frameworks' packages do not know each other"
        elif top in {"django", "flask"} and top != package.removeprefix("mailbridge_"):
            yield f"{says}: that is the other framework"


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=names)
def test_imports_point_downwards(path: Path) -> None:
    assert list(forbidden(path)) == []


@pytest.mark.parametrize("path", FILES, ids=names)
def test_files_and_functions_stay_small(path: Path) -> None:
    source = path.read_text("utf-8")
    assert len(source.splitlines()) <= LINES_OF_A_FILE
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    sizes = {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions)
    }
    assert {name: size for name, size in sizes.items() if size > LINES_OF_A_FUNCTION} == {}


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("mailbridge/protocol/new.py", "import socket", "no I/O"),
        ("mailbridge/protocol/new.py", "from ..sync import smtp", "sync is above protocol"),
        ("mailbridge/errors.py", "from .protocol.reply import Reply", "protocol is above errors"),
        ("mailbridge/errors.py", "def f():\n    import mailbridge", "imports everything"),
        ("mailbridge/errors.py", "from . import protocol", "protocol is above errors"),
        ("mailbridge/sync/new.py", "from mailbridge.aio import driver", "each other"),
        ("mailbridge/options.py", "from django.conf import settings", "no framework"),
        ("mailbridge_django/new.py", "import mailbridge_flask", "each other"),
        ("mailbridge_flask/new.py", "import django", "other framework"),
    ],
)
def test_a_wrong_import_is_found(
    file: str, source: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for directory in ("sync", "aio", "protocol"):
        (tmp_path / "mailbridge" / directory).mkdir(parents=True)
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert [complaint in each for each in forbidden(path)] == [True]
