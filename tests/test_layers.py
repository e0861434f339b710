"""The rooms of the project: imports point downwards, files and functions stay small.

mailbridge_django    mailbridge_flask    cli    testing
           probe  |  preview
              sync  |  aio
      protocol  |  policy, message, outbox
        errors, envelope, report, options, dkim
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PACKAGES = ("mailbridge", "mailbridge_django", "mailbridge_flask")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# A room is the first part of a module's name below `mailbridge`. A file that is in no list yet
# belongs to the upper floor: it may use everything, and nothing below may use it.
VALUES = {
    *(
        "advice",
        "errors",
        "fields",
        "envelope",
        "mailbox",
        "esmtp",
        "deadline",
        "report",
        "host",
        "convert",
        "secret",
        "options",
        "url",
        "security",
        "dkim",
        "catalogue",
    )
}
FUNCTIONS = {
    *("protocol", "policy", "message", "header", "render", "outbox", "sendmail"),
    *(
        "observe",
        "outgoing",
        "fitting",
        "rewriting",
        "tls",
        "memory",
        "logins",
        "tokens",
        "findings",
        "forks",
        "registry",
    ),
    *("resolve", "reach", "opening", "link", "client", "stock", "attempt", "route", "line"),
    *("convoy", "windowed", "hooks", "calling"),
}
SOCKETS = {"sync", "aio"}
FLOORS = [VALUES, FUNCTIONS, SOCKETS, {"probe", "preview"}]

NO_IO = {"socket", "ssl", "asyncio", "threading", "time", "select", "selectors", "subprocess"}
FRAMEWORKS = {"django", "flask", "celery", "blinker", "mailbridge_django", "mailbridge_flask"}

LINES_OF_A_FILE = 350 * 1.1
LINES_OF_A_FUNCTION = 60


class Import(NamedTuple):
    line: int
    name: str
    # Under "if TYPE_CHECKING:" a value may name what is above it; it does not depend on it.
    for_types: bool


def imports(path: Path) -> Iterator[Import]:
    """Yield everything that the file imports, wherever it does.

    ``from a import b`` yields ``a.b``, since b can be a module.
    """
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    blocks = [node for node in nodes if isinstance(node, ast.If)]
    guarded = {
        inner
        for block in blocks
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        for inner in ast.walk(statement)
    }
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, node in guarded)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(node.lineno, f"{module}.{alias.name}", node in guarded)


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
    complaints = in_the_core if package == "mailbridge" else in_a_framework
    for each in imports(path):
        here = parts[0] if package == "mailbridge" else package
        for complaint in complaints(here, each):
            yield f"{path.relative_to(ROOT)}:{each.line} imports {each.name}: {complaint}"


def in_the_core(here: str, imported: Import) -> Iterator[str]:
    top, there = imported.name.partition(".")[0], room(imported.name)
    if top in FRAMEWORKS:
        yield "the core knows no framework"
    if here == "protocol" and top in NO_IO and not imported.for_types:
        yield "the protocol does no I/O"
    if here == "__init__" or imported.for_types:
        return
    if top == "mailbridge" and there is None and floor(here) < len(FLOORS):
        yield "the package itself imports everything"
    if there is not None and floor(there) > floor(here):
        yield f"{there} is above {here}"
    if here in SOCKETS and there in SOCKETS and here != there:
        yield "sync and aio do not know each other"


def in_a_framework(here: str, imported: Import) -> Iterator[str]:
    top = imported.name.partition(".")[0]
    if top in PACKAGES and top not in ("mailbridge", here):
        yield "the frameworks' packages do not know each other"
    if top in {"django", "flask"} and top != here.removeprefix("mailbridge_"):
        yield "that is the other framework"


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


def test_a_name_for_types_may_come_from_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "mailbridge/errors.py"
    (tmp_path / "mailbridge/protocol").mkdir(parents=True)
    path.write_text("if TYPE_CHECKING:\n    from .protocol.reply import Reply")
    assert list(forbidden(path)) == []


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
        ("mailbridge/sync/new.py", "if TYPE_CHECKING:\n    import flask", "no framework"),
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
