"""The code in README.md and docs/ runs, and prints what the pages say it prints.

Each page is run top to bottom in a process and a directory of its own, with a scripted server in
place of ``localhost:1025`` (``example_project/relay.py``: who is refused there). A block that
begins with ``# name.py`` becomes that file and is imported; ``(Django 6.1)`` behind the name
limits it to that version. A ``settings.py`` that is there is added to. A ``text`` block is what the
block above it prints, but for the way lines are wrapped and the server's queue numbers. Of the
``sh`` blocks those lines are not run that install something or start a server.

What a page leaves out, the site around its code or the proof of what it says, stands in blocks
inside HTML comments, which are run like the others. ``/etc/my-site`` is the page's directory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mailbridge import errors
from tests.pages import DOCS, FENCE, PAGES, ROOT, blocks, name

# A page that runs pytest itself takes a while on a busy machine.
pytestmark = pytest.mark.timeout(180)

RUN_PAGE = Path(__file__).with_name("run_page.py")


def uses_django(page: Path) -> bool:
    """Whether a page has code for Django: others do the same with each version of it."""
    return any("django" in block.text.lower() for block in blocks(page))


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=() if uses_django(page) else pytest.mark.once)
        for page in PAGES
    ],
)
def test_the_code_of_a_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    if "\nopenssl " in page.read_text("utf-8") and not shutil.which("openssl"):
        pytest.skip("the page uses openssl, which is not installed here")
    done = subprocess.run(
        [sys.executable, "-W", "error", RUN_PAGE, page],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{name(page)}: {target}"


def test_the_extras_that_pages_install_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {
        extra
        for page in PAGES
        for extras in re.findall(r"mailbridge\[([\w,-]+)\]", page.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert {"django", "flask"} <= named <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_that_is_not_run_says_why(page: Path) -> None:
    """In a comment above it. So no block escapes by its language, or by being indented."""
    text = page.read_text("utf-8")
    languages = {block.language for block in blocks(page)}
    assert languages <= {"python", "sh", "text", "console"}
    shown = FENCE.sub(lambda fence: "<console>\n" if fence[1] == "console" else "", text)
    for found in re.finditer(r"(.*)\n\n(?:<console>$| {4}\S)", shown, re.MULTILINE):
        above = found[1]
        assert re.fullmatch(r"<!-- not run: .+ -->", above), f"{name(page)}: below {above!r}"


def test_every_page_is_linked_from_the_index() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    linked = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+\.md)\)", index)}
    pages = {page.resolve() for page in PAGES[1:]}
    assert {name(page) for page in pages - linked} == {"docs/index.md"}


def test_every_error_is_in_the_reference() -> None:
    page = (DOCS / "reference/errors.md").read_text("utf-8")
    own = {
        each.__name__
        for each in vars(errors).values()
        if isinstance(each, type) and each.__module__ == "mailbridge.errors"
    }
    assert own <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
