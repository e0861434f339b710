"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w/]+\.py)(?: \(Django (.+)\))?\n")


class Block(NamedTuple):
    """A fenced block: the line that its fence is in, the language, and what is in it."""

    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text("utf-8")
    return [
        Block(text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    """The page's path inside the project."""
    return str(page.relative_to(ROOT))


def is_for(versions: str | None, version: tuple[int, ...]) -> bool:
    """Whether a block with this behind its file's name is for this version of Django."""
    return not versions or ".".join(map(str, version[:2])) in versions
