"""The example sites and the demo: what a visitor, a terminal and the relay get to see."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from example_project import relay as demo_relay
from example_project.flask_site import create_app
from example_project.relay import BUSY, GONE, LOST, Answer, answers
from example_project.sites import environment
from mailbridge import Envelope, MailError, Transport
from mailbridge.testing import ScriptedServer

# A process that loads Django takes a while on a busy machine, and the demo starts some.
pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parent.parent
DESK = "desk@example.org"
ON_A_TERMINAL = re.compile(r"\x1b\[")

# Django has one set of settings in a process, and other tests have theirs: the site is visited
# in a process of its own, which prints what it saw.
VISIT_DJANGO = """
import json, sys, django
django.setup()
from django.test import Client
client = Client(SERVER_NAME="localhost")
page = client.post("/", json.loads(sys.argv[1]), follow=True)
first = page.redirect_chain[0][0] if page.redirect_chain else None
print(json.dumps([page.status_code, first, page.content.decode()]))
"""
Seen = tuple[int, str | None, str]


@pytest.fixture
def relay() -> Iterator[ScriptedServer]:
    with demo_relay.scripted_relay() as server:
        yield server


@pytest.fixture(params=["django", "flask"])
def site(request: pytest.FixtureRequest) -> str:
    return request.param


def python(*arguments: str, port: int) -> subprocess.CompletedProcess[str]:
    env = os.environ | environment(port) | {"NO_COLOR": "1"}
    env["DJANGO_SETTINGS_MODULE"] = "example_project.django_site.settings"
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def visit(site: str, port: int, email: str, text: str = "Hello.") -> Seen:
    """Fill in the contact form; return status, where one was sent on to, and the page."""
    form = {"email": email, "text": text}
    if site == "django":
        done = python("-c", VISIT_DJANGO, json.dumps(form), port=port)
        assert done.returncode == 0, done.stderr
        status, path, page = json.loads(done.stdout)
    else:
        response = flask_client(port).post("/", data=form, follow_redirects=True)
        path = response.request.path if response.history else None
        status, page = response.status_code, response.text
    return status, path, page


def flask_client(port: int) -> FlaskClient:
    return create_app(MAIL_SERVER="127.0.0.1", MAIL_PORT=port).test_client()


def newsletter(site: str, port: int) -> subprocess.CompletedProcess[str]:
    if site == "django":
        return python("-m", "example_project.django_site.manage", "newsletter", port=port)
    return python("-m", "flask", "--app", "example_project.flask_site", "newsletter", port=port)


def states(page: str) -> dict[str, str]:
    """The addresses on the page that tells what became of a message, and their states."""
    pattern = r'<strong>(.*?)</strong>\s*<span class="state (\w+)">'
    return dict(re.findall(pattern, page, re.DOTALL))


# -- the contact form


def test_everybody_got_it(site: str, relay: ScriptedServer) -> None:
    status, path, page = visit(site, relay.port, "ada@example.com", "Where are you?\n.\nBye")
    assert (status, path) == (200, "/sent/")
    assert "Thank you" in page
    assert states(page) == {DESK: "accepted", "ada@example.com": "accepted"}
    (message,) = relay.messages
    assert message.recipients == (DESK, "ada@example.com")
    assert message.mail_from == "website@example.org"
    assert message.message["Reply-To"] == "ada@example.com"
    assert message.message.get_content().splitlines() == ["Where are you?", ".", "Bye"]


@pytest.mark.parametrize(
    ("visitor", "state", "reply"),
    [
        (GONE, "refused", "550 5.1.1 No such user"),
        (BUSY, "deferred", "451 4.7.1 Greylisted, try again later"),
    ],
)
def test_the_visitor_is_refused(
    site: str, relay: ScriptedServer, visitor: str, state: str, reply: str
) -> None:
    status, path, page = visit(site, relay.port, visitor)
    assert (status, path) == (200, "/sent/")
    assert "did not reach everybody" in page
    assert list(states(page).items()) == [(DESK, "accepted"), (visitor, state)]
    assert reply in page
    assert [message.recipients for message in relay.messages] == [(DESK,)]


def test_in_doubt(site: str, relay: ScriptedServer) -> None:
    status, path, page = visit(site, relay.port, LOST)
    assert (status, path) == (200, "/sent/")
    assert "may have been sent" in page
    assert states(page) == {DESK: "in_doubt", LOST: "in_doubt"}


def test_nobody_got_it(site: str, relay: ScriptedServer) -> None:
    relay.refuse(DESK, 550, "5.7.1 Not from you")
    status, path, page = visit(site, relay.port, GONE, "My <message>.")
    assert (status, path) == (503, None)
    assert "Your message was not sent" in page
    assert "trying again will not help" in page
    assert "5.7.1 Not from you" in page
    assert "My &lt;message&gt;." in page


def test_the_relay_is_down(site: str, closed_port: int) -> None:
    status, path, page = visit(site, closed_port, "ada@example.com", "Keep my words.")
    assert (status, path) == (503, None)
    assert "Nobody got it" in page
    assert "nothing listens on this port" in page
    assert "Keep my words." in page


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@example.com, eve@example.com", "ada@example.com\r\nBcc: eve@x.org"]
)
def test_what_is_no_address_is_not_sent(site: str, relay: ScriptedServer, email: str) -> None:
    status, path, page = visit(site, relay.port, email)
    assert (status, path) == (200, None)
    assert "Hello." in page
    assert relay.connections == 0


def test_the_page_of_the_result_without_a_result_leads_to_the_form() -> None:
    response = flask_client(1).get("/sent/")
    assert (response.status_code, response.location) == (302, "/")


# -- the newsletter


def test_the_newsletter_prints_what_became_of_each(site: str, relay: ScriptedServer) -> None:
    done = newsletter(site, relay.port)
    printed = [line.split(maxsplit=2)[:2] for line in done.stdout.splitlines()]
    assert printed == [
        ["accepted", "ada@example.org"],
        ["refused", GONE],
        ["accepted", "grace@example.com"],
        ["deferred", BUSY],
    ]
    assert "2 of 4 messages did not arrive" in done.stderr
    assert done.returncode == 1
    assert relay.connections == 1
    assert [m.recipients for m in relay.messages] == [("ada@example.org",), ("grace@example.com",)]


def test_the_newsletter_goes_on_after_a_lost_connection(site: str, relay: ScriptedServer) -> None:
    relay.drop("RCPT", recipient=GONE, times=1)
    done = newsletter(site, relay.port)
    assert "accepted       grace@example.com" in done.stdout
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_newsletter_without_a_relay(site: str, closed_port: int) -> None:
    done = newsletter(site, closed_port)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "nothing listens on this port" in done.stdout + done.stderr


# -- the demo


def test_the_demo_runs_through() -> None:
    done = python("-m", "example_project.demo", "--once", port=1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("SomeRecipientsRefused") == 2
    assert "All four sendings went as expected." in done.stdout
    assert "http://" not in done.stdout
    assert not ON_A_TERMINAL.search(done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    "end", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.once)]
)
def test_the_demo_serves_pages_until_it_is_ended(end: signal.Signals) -> None:
    from example_project.sites import fill_in

    with subprocess.Popen(
        [sys.executable, "-u", "-m", "example_project.demo"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.endswith("_PORT")},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            urls: list[str] = []
            while len(urls) < 2:
                line = process.stdout.readline()
                assert line, "the demo ended by itself"
                urls += re.findall(r"http://[\d.:]+/$", line.rstrip())
            for url in urls:
                assert fill_in(url, GONE, "Hello.").path == "/sent/"
            process.send_signal(end)
            assert "stopped" in process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()


# -- reading the relay's transcript


def test_answers_tell_the_last_word_on_each_recipient(relay: ScriptedServer) -> None:
    for recipients in ([DESK, GONE], [DESK, LOST], [BUSY]):
        with pytest.raises(MailError):
            Transport(relay.url).send(Envelope("me@example.org", recipients), "Hello.\n")
    found = answers(relay.transcript)
    assert [(answer.recipient, answer.state) for answer in found] == [
        (DESK, "accepted"),
        (GONE, "refused"),
        (DESK, "in doubt"),
        (LOST, "in doubt"),
        (BUSY, "deferred"),
    ]


def test_replies_to_a_group_of_commands_are_paired_by_counting() -> None:
    transcript = """\
[1] -- connected
[1] S: 220 scripted.example
[1] C: MAIL FROM:<me@example.org>
[1] C: RCPT TO:<a@example.org>
[1] C: RCPT TO:<b@example.org>
[1] C: DATA
[1] S: 250 2.1.0 Ok
[1] S: 550-5.1.1 No
[1] S: 550 5.1.1 such user
[1] S: 250 2.1.5 Ok
[1] S: 354 Go on
[1] C: <8 octets of content>
[1] S: 250 2.0.0 Ok
"""
    assert answers(transcript) == [
        Answer("a@example.org", "550 5.1.1 such user"),
        Answer("b@example.org", "250 2.0.0 Ok"),
    ]


def test_a_chunk_is_answered_once() -> None:
    transcript = """\
[1] C: MAIL FROM:<me@example.org>
[1] S: 250 2.1.0 Ok
[1] C: RCPT TO:<a@example.org>
[1] S: 250 2.1.5 Ok
[1] C: BDAT 8 LAST
[1] C: <8 octets of content>
[1] S: 554 5.7.1 No
[1] C: QUIT
[1] S: 221 Bye
"""
    assert answers(transcript) == [Answer("a@example.org", "554 5.7.1 No")]
