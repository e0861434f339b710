"""What is not installed says which extra brings it. (Installed alone: `.ci/check-package`.)"""

from __future__ import annotations

import subprocess
import sys

import pytest

LOGIN_BY_SCRAM = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "scramp" else find(name, *more)
from mailbridge import Relay, Transport
from mailbridge.testing import ScriptedServer
with ScriptedServer(users={"a": "b"}, mechanisms=["SCRAM-SHA-1"]) as server:
    Transport(Relay.from_options(server.relay_options())).open()
"""
SIGN = """
from mailbridge import Signer
Signer("example.org", "mail1", "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
"""


@pytest.mark.parametrize(
    ("extra", "missing", "code"),
    [
        ("django", "django", "import mailbridge_django"),
        ("django", "django", "import mailbridge_django.exceptions"),
        ("flask", "flask", "import mailbridge_flask"),
        ("flask", "blinker", "from mailbridge_flask import Mail"),
        ("testing", "trustme", "from mailbridge.testing import TestCA; TestCA()"),
        ("scram", "scramp", LOGIN_BY_SCRAM),
        ("dkim", "dkim", SIGN),
        ("dkim", "nacl", SIGN),
    ],
)
def test_what_is_missing_names_its_extra(extra: str, missing: str, code: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'pip install "mailbridge[{extra}]"' in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.parametrize("module", ["mailbridge_django", "mailbridge_flask"])
def test_another_missing_module_is_called_by_its_name(module: str) -> None:
    code = f"import sys; sys.modules['idna'] = sys.modules['smtplib'] = None\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install" not in done.stderr
    assert "smtplib" in done.stderr
