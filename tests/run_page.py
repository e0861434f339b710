"""Run the code of one page, in the working directory: ``python tests/run_page.py PAGE``.

Prints what a block has printed that is not what the page says, and ends with 1 then. The rules
are those of `tests/test_docs.py`. Without pytest, which takes longer to load than most pages run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.pages import FILE, blocks, is_for, name

PORT = "1025"
NOT_RUN = re.compile(
    r"make (demo|test|lint|matrix)( ONCE=1)?|pip install \S+|cd \S+|python -m mailbridge.testing .*"
)
# What a settings module needs besides mail, and the pages do not talk about.
SETTINGS = "SECRET_KEY = 'x'\nROOT_URLCONF = 'urls'\nALLOWED_HOSTS = ['*']\nINSTALLED_APPS = []\n"


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
