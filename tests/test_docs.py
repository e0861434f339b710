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

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbridge import errors
from tests.pages import DOCS, FENCE, FILE, PAGES, ROOT, blocks, is_for, name

# A page that runs pytest itself takes a while on a busy machine.
pytestmark = pytest.mark.timeout(180)

PORT = "1025"
NOT_RUN = re.compile(
    r"make (demo|test|lint|matrix)( ONCE=1)?|pip install \S+|cd \S+|python -m mailbridge.testing .*"
)
# What a settings module needs besides mail, and the pages do not talk about.
SETTINGS = "SECRET_KEY = 'x'\nROOT_URLCONF = 'urls'\nALLOWED_HOSTS = ['*']\nINSTALLED_APPS = []\n"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_code_of_a_page_runs_and_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    if "\nopenssl " in page.read_text("utf-8") and not shutil.which("openssl"):
        pytest.skip("the page uses openssl, which is not installed here")
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, str(page)],
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


# -- the process that runs one page


def run(page: Path, port: int) -> Iterator[str]:
    """Run the blocks of a page in order. Yields a text for each one that prints something else."""
    sys.path.insert(0, os.getcwd())
    names: dict[str, object] = {"__name__": "page"}
    printed, above = "", 0
    for line, language, text in blocks(page):
        text = text.replace(PORT, str(port)).replace("/etc/my-site", os.getcwd())
        if language == "text" and above:
            if words(text) != words(printed):
                yield f"{name(page)}:{line}: expected\n{text}\ngot\n{printed}"
            above = 0
            continue
        above = line if language in ("python", "sh") else 0
        if language == "python":
            printed = python(f"{name(page)}:{line}", text, names)
        elif language == "sh":
            printed = "".join(map(shell, text.splitlines()))
    set_up_django()


def set_up_django() -> None:
    """With the settings that the page has by now, if it has any. Nothing the second time."""
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import django

        django.setup()


def words(text: str) -> list[str]:
    # The number names the connection, and which mails share one depends on this host's name.
    return re.sub(r"queued as \w+", "queued as ...", text).split()


def python(where: str, text: str, names: dict[str, object]) -> str:
    output = io.StringIO()
    if (file := FILE.match(text)) is None:
        set_up_django()
        with contextlib.redirect_stdout(output):
            exec(compile("\n" * (int(where.rpartition(":")[2])) + text, where, "exec"), names)
        return output.getvalue()
    import django

    if not is_for(file[2], django.VERSION):
        return ""
    path = Path(file[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    module = ".".join(path.with_suffix("").parts)
    if path.name == "settings.py":
        os.environ["DJANGO_SETTINGS_MODULE"] = module
        before = path.read_text() if path.exists() else SETTINGS
        path.write_text(before + text)
    else:
        set_up_django()
        path.write_text(text)
        importlib.invalidate_caches()
        if path.name != "manage.py":
            importlib.import_module(module)
    return ""


def shell(line: str) -> str:
    if NOT_RUN.fullmatch(line):
        return ""
    line, _, fails = line.partition("  # exits with ")
    command = shlex.split(line)
    if " | " in line or command[0] == "openssl":
        return pipe(line)
    if command[0] == "django-admin":
        command = ["python", "-m", "django", *command[1:]]
    assert command[0] in ("flask", "pytest") or command[1] in ("manage.py", "-m"), line
    arguments = command[1:] if command[0] == "python" else ["-m", *command]
    if command[0] == "pytest":
        # Ours alone: the others of this environment cost seconds.
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        arguments += ["-p", "mailbridge.testing.plugin"]
        # The directory may lie inside the checkout, whose configuration is not the page's.
        Path("pytest.ini").touch()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=140, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == int(fails or 0), output
    assert "NO TESTS RAN" not in output
    return output


def pipe(line: str) -> str:
    """What a line prints that it takes a shell to run."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        line,
        shell=True,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def main() -> int:
    from example_project.relay import scripted_relay

    with scripted_relay() as relay:
        wrong = list(run(Path(sys.argv[1]), relay.port))
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
