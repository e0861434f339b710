"""The pytest plugin from outside: small test suites that use it, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

# A pytest of its own with every plugin takes a while on a busy machine.
pytestmark = pytest.mark.timeout(180)

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# As in tests/conftest.py: there may be no entry points, or not yet all.
INSTALLED = bool(entry_points(group="pytest11", name="mailbridge"))

INI = """
    [pytest]
    addopts = -p no:randomly -p no:cacheprovider -p no:hypothesispytest {more}
    filterwarnings = error
    {settings}
"""

SEND = """
    from mailbridge import Envelope, Transport

    HELLO = "Subject: Hello\\n\\nIt works.\\n"

    def send(url, *to):
        return Transport(url, on_refused="report").send(Envelope("me@example.org", to), HELLO)
"""


class Suite:
    """A directory with tests, and the plugin in it."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
        pytester.makepyfile(sending=SEND)
        self.ini("-p no:django -p no:asyncio")

    def ini(self, more: str = "", settings: str = "") -> None:
        self._pytester.makeini(INI.format(more=more, settings=settings))

    def files(self, **sources: str) -> None:
        self._pytester.makepyfile(**sources)

    def run(self, *args: str) -> pytest.RunResult:
        plugin = () if INSTALLED else ("-p", "mailbridge.testing.plugin")
        return self._pytester.runpytest_subprocess(*plugin, *args)


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Suite:
    return Suite(pytester, monkeypatch)


def test_the_entry_points_lead_somewhere() -> None:
    points = PROJECT["entry-points"]
    assert points["pytest11"] == {"mailbridge": "mailbridge.testing.plugin"}
    assert points["mailbridge.testing"] == {
        "django": "mailbridge_django.testing",
        "flask": "mailbridge_flask.testing",
    }


@pytest.mark.parametrize("module", ["mailbridge", "mailbridge.testing"])
def test_pytest_is_not_imported_by_others(module: str) -> None:
    code = f"import sys, {module}; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.once
def test_a_server_that_does_what_it_is_told(suite: Suite) -> None:
    suite.files(
        test_it="""
        import pytest
        from sending import send

        def test_refused(smtpd):
            smtpd.refuse("gone@example.net", 550, "5.1.1 No such user")
            smtpd.defer("busy@example.net")
            report = send(smtpd.url, "ada@example.org", "gone@example.net", "busy@example.net")
            assert report.refused == ("gone@example.net",)
            assert report.deferred == ("busy@example.net",)
            assert smtpd.envelopes == (("me@example.org", ("ada@example.org",)),)
            assert smtpd.messages[0].message["Subject"] == "Hello"
            assert "RCPT TO:<gone@example.net>" in smtpd.transcript

        def test_the_others(smtpd):
            smtpd.greylist()
            smtpd.delay("EHLO", 0.01)
            smtpd.without("PIPELINING", "CHUNKING")
            smtpd.drop_after(1)
            smtpd.max_connections = 1
            assert send(smtpd.url, "ada@example.org").deferred
            assert send(smtpd.url, "ada@example.org").accepted
            assert "DATA" in smtpd.transcript

        @pytest.mark.smtpd(tls="starttls", users={"shop": "secret"}, require_auth=True)
        def test_tls_and_login(mail_server_settings, smtpd):
            from mailbridge import Envelope, Relay, Transport
            relay = Relay.from_options(mail_server_settings)
            Transport(relay).send(Envelope("me@example.org", "ada@example.org"), "Hello.\\n")
            assert smtpd.messages[0].tls and smtpd.messages[0].user == "shop"

        @pytest.mark.smtpd(users={"shop": "secret"})
        class TestMarkers:
            @pytest.mark.smtpd(tls="implicit")
            def test_add_up(self, smtpd, mail_server_settings):
                assert smtpd.url.startswith("smtps://")
                assert mail_server_settings["username"] == "shop"
                assert mail_server_settings["tls"] == "implicit"
        """
    )
    suite.run("--strict-markers").assert_outcomes(passed=4)


@pytest.mark.once
def test_a_wrong_marker_says_so(suite: Suite) -> None:
    suite.files(
        test_it="""
        import pytest

        @pytest.mark.smtpd(tls="yes")
        def test_tls(smtpd): ...

        @pytest.mark.smtpd("starttls")
        def test_position(smtpd): ...
        """
    )
    result = suite.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*tls='yes'*expected one of none, starttls, implicit*"])
    result.stdout.fnmatch_lines(["*the marker smtpd takes keyword arguments only*"])


@pytest.mark.once
def test_a_recorded_session_is_repeated(suite: Suite) -> None:
    suite.files(
        test_it="""
        import pytest
        from pathlib import Path
        from sending import send
        from mailbridge import Envelope, Relay, Transport
        from mailbridge.testing import Recording

        @pytest.mark.smtpd(tls="starttls", users={"shop": "secret"})
        def test_it_is_recorded(smtpd, mail_server_settings):
            smtpd.refuse("gone@example.net")
            recording = Recording()
            relay = Relay.from_options(mail_server_settings)
            transport = Transport(relay, on_refused="report", listener=recording)
            transport.send(Envelope("me@example.org", ["a@x.org", "gone@example.net"]), "Hi.\\n")
            recording.save(Path(__file__).parent / "session.txt")

        @pytest.mark.smtpd(replay="session.txt", users={"shop": "other"})
        @pytest.mark.parametrize("second", ["gone@example.net", "else@example.net"])
        def test_it_is_repeated(smtpd, mail_server_settings, second):
            relay = Relay.from_options(mail_server_settings)
            transport = Transport(relay, on_refused="report")
            report = transport.send(Envelope("me@example.org", ["a@x.org", second]), "Hi.\\n")
            assert report.refused == ("gone@example.net",)
        """
    )
    result = suite.run()
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*the client said b'RCPT TO:<else@example.net>*"])


@pytest.mark.once
def test_a_failure_shows_what_was_said(suite: Suite) -> None:
    suite.files(
        test_it="""
        from sending import send

        def test_it(smtpd):
            send(smtpd.url, "ada@example.org")
            assert not smtpd.messages
        """
    )
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*smtpd: what was said*", "*C: RCPT TO:<ada@example.org>*"])


@pytest.mark.once
def test_an_empty_mailbox_says_so(suite: Suite) -> None:
    suite.files(
        test_it="""
        def test_it(mailbox):
            mailbox.assert_sent(to="ada@example.org")
        """
    )
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*expected a mail to ada@example.org", "E*mailbox is empty.*"])
    result.stdout.no_fnmatch_line("*__tracebackhide__*")


@pytest.mark.once
def test_no_test_sees_the_mail_of_another_under_xdist(suite: Suite) -> None:
    pytest.importorskip("xdist", reason="needs pytest-xdist, of the group test")
    suite.files(
        test_it="""
        import pytest
        from sending import send

        @pytest.mark.parametrize("number", range(20))
        def test_it(mailbox, smtpd, number):
            send("smtp://mail.invalid", f"{number}@example.org")
            mailbox.assert_sent(to=f"{number}@example.org")
            mailbox.assert_sent(count=1)
            assert not smtpd.messages
        """
    )
    suite.run("-n", "2").assert_outcomes(passed=20)


DJANGO = {
    "settings": """
        SECRET_KEY = "x"
        EMAIL_BACKEND = "mailbridge_django.EmailBackend"
        EMAIL_HOST = "mail.example.org"
        EMAIL_USE_TLS = True
        INSTALLED_APPS = []
        USE_TZ = True
        MAILERS = {"default": {
            "BACKEND": EMAIL_BACKEND,
            "OPTIONS": {"host": EMAIL_HOST, "tls": "starttls", "on_refused": "raise_if_all"},
        }}
        MAILBRIDGE = {"on_refused": "raise_if_all"}
        import django
        if django.VERSION < (6, 1):
            del MAILERS
        else:
            del EMAIL_BACKEND, EMAIL_HOST, EMAIL_USE_TLS, MAILBRIDGE
        """,
    "test_it": """
        from django.core.mail import send_mail

        def send(*to):
            return send_mail("Hello", "It works.", "me@example.org", list(to))

        def test_mail_goes_to_the_server(smtpd, mail_server_settings, mailoutbox):
            smtpd.refuse("gone@example.net")
            assert send("ada@example.org", "gone@example.net") == 1  # the project's on_refused
            assert smtpd.messages[0].recipients == ("ada@example.org",)
            assert len(mailoutbox) == 1

        def test_a_mailbox_beside_the_outbox(mailbox, mailoutbox):
            mailbox.refuse("gone@example.net")
            assert send("ada@example.org", "gone@example.net") == 1
            mailbox.assert_sent(to="ada@example.org", subject="Hello", text_contains="works")
            mailbox.assert_refused("gone@example.net")
            assert mailoutbox[0].subject == "Hello"

        def test_without_it_the_outbox_alone(mailoutbox):
            send("ada@example.org", "gone@example.net")
            assert len(mailoutbox) == 1
        """,
}


def test_beside_pytest_django(suite: Suite) -> None:
    pytest.importorskip("pytest_django", reason="needs pytest-django, of the group test")
    suite.files(**DJANGO)
    suite.ini(settings="DJANGO_SETTINGS_MODULE = settings", more="-p no:asyncio")
    suite.run().assert_outcomes(passed=3)


FLASK = {
    "shop": """
        from flask import Flask
        from mailbridge_flask import Mail, Message

        mail = Mail()

        def create_app():
            app = Flask("shop")
            app.config.update(
                TESTING=True, MAIL_SERVER="mail.example.org", MAIL_DEFAULT_SENDER="me@example.org"
            )
            mail.init_app(app)

            @app.post("/<to>")
            def hello(to):
                return mail.send(Message("Hello", [to], html="<p>It works.</p>")).to_dict()

            @app.post("/async/<to>")
            async def later(to):
                return (await mail.asend(Message("Hello", [to], html="<p>Hi.</p>"))).to_dict()

            return app
        """,
    "test_it": """
        import pytest
        from shop import create_app

        @pytest.fixture
        def client():
            return create_app().test_client()

        def test_mail_goes_to_the_server(client, smtpd, mail_server_settings):
            assert client.post("/ada@example.org").status_code == 200
            assert smtpd.messages[0].recipients == ("ada@example.org",)

        def test_a_mailbox(client, mailbox):
            mailbox.refuse("gone@example.net")
            client.post("/ada@example.org")
            with pytest.raises(OSError, match="5.1.1 No such user"):
                client.post("/gone@example.net")
            mailbox.assert_sent(to="ada@example.org", html_contains="<p>It works.</p>")
            mailbox.assert_refused("gone@example.net", code=550)

        def test_nothing_is_sent(client, mailbox):
            client.get("/")
            mailbox.assert_none()
        """,
}


def test_flask(suite: Suite) -> None:
    suite.files(**FLASK)
    suite.run().assert_outcomes(passed=3)


def test_asyncio(suite: Suite) -> None:
    pytest.importorskip("pytest_asyncio", reason="needs pytest-asyncio, of the group test")
    suite.ini("-p no:django", settings="asyncio_default_fixture_loop_scope = function")
    suite.files(
        shop=FLASK["shop"],
        test_it="""
        import asyncio
        import pytest
        from shop import create_app, mail
        from mailbridge import AsyncTransport, Envelope
        from mailbridge_flask import Message

        @pytest.mark.asyncio
        async def test_many_at_once(mailbox):
            with create_app().app_context():
                messages = [Message("Hello", [f"{n}@example.org"], "Hi.") for n in range(10)]
                await asyncio.gather(*map(mail.asend, messages))
            mailbox.assert_sent(count=10)

        @pytest.mark.asyncio
        async def test_the_next_one_starts_empty(mailbox):
            mailbox.assert_none()

        @pytest.mark.asyncio
        async def test_a_server(smtpd, mail_server_settings):
            with create_app().app_context():
                await mail.asend(Message("Hello", ["ada@example.org"], "Hi."))
            transport = AsyncTransport(smtpd.url)
            await transport.send(Envelope("me@example.org", "ada@example.org"), "Hi.\\n")
            assert len(smtpd.messages) == 2
        """,
    )
    suite.run().assert_outcomes(passed=3)
