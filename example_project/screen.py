"""Plain text for a terminal: aligned, wrapped, in colour only where somebody looks at it."""

import os
import sys
import textwrap

WIDTH = 92
INDENT = 6
LABEL = 13
_COLOURS = {"accepted": "32", "refused": "31", "deferred": "33", "heading": "1", "ok": "32"}


def paint(text: str, colour: str) -> str:
    """`text` in colour on a terminal, as it is elsewhere."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or colour not in _COLOURS:
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def heading(text: str) -> None:
    """A line that begins a section."""
    print(f"\n{paint(text, 'heading')}")


def subheading(text: str) -> None:
    """A line that begins a part of a section."""
    print(f"   {text}")


def paragraph(text: str) -> None:
    """Flowing text."""
    print(textwrap.fill(text, WIDTH))


def row(label: str, text: str, colour: str = "") -> None:
    """A label, and text beside it that is wrapped in its own column."""
    lines = textwrap.wrap(text, WIDTH - LABEL - INDENT) or [""]
    for index, line in enumerate(lines):
        print(
            " " * INDENT
            + f"{paint((label if index == 0 else '').ljust(LABEL), colour)}{line}".rstrip()
        )


def block(label: str, lines: list[str]) -> None:
    """A label, and lines beside it as they are."""
    for index, line in enumerate(lines):
        print(" " * INDENT + f"{(label if index == 0 else '').ljust(LABEL)}{line}".rstrip())
