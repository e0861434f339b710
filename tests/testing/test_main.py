"""``python -m mailbridge.testing``: a server to try things with."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mailbridge import Envelope, Transport
from mailbridge.testing import ScriptedServer
from mailbridge.testing.__main__ import main

COMMAND = [sys.executable, "-m", "mailbridge.testing", "--port", "0"]


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command running, and the URL that it says."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *request.param], stdout=pipe, stderr=pipe, text=True) as run:
        assert run.stdout is not None
        try:
            found = re.search(r"smtp://127\.0\.0\.1:\d+", run.stdout.readline())
            assert found is not None
            yield run, found[0]
        finally:
            run.kill()


@pytest.mark.parametrize(
    "served", [["--refuse", "gone@example.net", "--defer", "*@busy.example"]], indirect=True
)
def test_it_does_as_it_is_told_and_shows_the_dialogue(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    run, url = served
    to = ["ada@example.org", "gone@example.net", "x@busy.example"]
    with Transport(url, on_refused="report") as transport:
        report = transport.send(Envelope("me@example.org", to), b"Subject: Hello\r\n\r\nHello.\r\n")
    assert report.accepted == ("ada@example.org",)
    assert report.refused == ("gone@example.net",)
    assert report.deferred == ("x@busy.example",)
    # It has begun to wait once a line of the dialogue is there: Ctrl-C finds it there.
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=30)
    assert "[1] C: RCPT TO:<gone@example.net>\n" in output
    assert "[1] S: 550 5.1.1 No such user\n" in output
    assert (run.returncode, errors) == (0, "")


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer() as other:
        assert main(["--port", str(other.port)]) == 1
    assert f"127.0.0.1:{other.port} cannot be had" in capsys.readouterr().err
