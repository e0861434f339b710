"""README.md names tests as proofs of rules: each of them is there."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
README = (Path(__file__).parent / "README.md").read_text("utf-8")
ROWS = [line for line in README.splitlines() if line.startswith("| ") and "`" in line]


def proofs(row: str) -> list[tuple[str, str]]:
    """(file, pattern of a test's name) for each test that the last column of a row names."""
    found, file = [], ""
    for name in re.findall(r"`([^`]+)`", row.rsplit(" | ", 1)[1]):
        path, _, test = name.partition("::")
        if path.startswith("c/"):
            file, test = "conversations/" + path.removeprefix("c/") + ".txt", ""
        else:
            file = path or file
        found.append((file, test))
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].strip("| ")[:40])
def test_every_proof_is_there(row: str) -> None:
    named = proofs(row)
    assert named
    for file, test in named:
        paths = list(TESTS.glob(file))
        assert paths, file
        if test:
            (path,) = paths
            tests = re.findall(
                r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE
            )
            assert any(fnmatch(each, test) for each in tests), name_of(file, test)


def name_of(file: str, test: str) -> str:
    return f"{file} has no {test}"
