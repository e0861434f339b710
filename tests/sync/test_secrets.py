"""Secrets show nowhere: repr, str, transcript, exception, pickle, log, debug output, traceback."""

from __future__ import annotations

import base64
import copy
import hashlib
import logging
import pickle
import ssl
import traceback
from collections.abc import Callable

import pytest

import mailbridge
from mailbridge import Relay, Secret, Transport
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client

USER, PASSWORD = "postmaster", "tr0ub4dor&3/ß"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5")
URL = "smtp://postmaster:tr0ub4dor%263%2F%C3%9F@{host}:{port}?tls=none&timeout=5"


def _forms() -> list[str]:
    """The password, and what it looks like on the wire and in a repr."""
    octets = PASSWORD.encode()
    plain = b"\0" + USER.encode() + b"\0" + octets
    forms = [PASSWORD, "tr0ub4dor", URL.partition("@")[0].rpartition(":")[2]]
    return forms + [base64.b64encode(each).decode() for each in (octets, plain)]


def assert_hidden(*texts: object) -> None:
    for text in map(str, texts):
        for form in _forms():
            assert form not in text


def _with_locals(error: BaseException) -> str:
    """A traceback with the locals of our frames, as error reporters make it; not the test's own."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [
        (frame.name, frame.locals)
        for part in (report, report.__cause__, report.__context__)
        if part is not None
        for frame in part.stack
        if "mailbridge" in frame.filename and "tests" not in frame.filename
    ]
    assert frames
    return repr(frames)


def _assert_error_hides(error: Exception) -> None:
    assert_hidden(error, repr(error), error.args, getattr(error, "transcript", ""), vars(error))
    assert_hidden(pickle.dumps(error).decode("utf-8", "replace"), _with_locals(error))
    report = getattr(error, "report", None)
    if report is not None:
        assert_hidden(report, repr(report), report.to_dict())
        assert_hidden(pickle.dumps(report).decode("utf-8", "replace"))


def test_values() -> None:
    relay = Relay.from_url(URL.format(host="mail.example.org", port=25))
    assert relay.password == Secret(PASSWORD)
    assert relay.password.reveal() == PASSWORD
    for value in (relay, relay.password, Transport(relay), [relay], {"relay": relay}):
        assert_hidden(value, repr(value), f"{value}", copy.copy(value))
    assert_hidden(repr(relay.using(port=26)))


def _refused(peer: Peer) -> None:
    line = peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH PLAIN"))
    secret = base64.b64decode(line.split(" ")[-1]).rpartition(b"\0")[2].decode()
    peer.say(f"535-5.7.8 {line}", f"535 5.7.8 password {secret} is wrong")
    peer.wait_for_close()


def _lost(peer: Peer) -> None:
    peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH PLAIN"))


def _garbled(peer: Peer) -> None:
    line = peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH PLAIN"))
    peer.say(f"what is {line}?")


def _lost_in_login(peer: Peer) -> None:
    peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH LOGIN"))
    peer.say("334 VXNlcm5hbWU6")
    peer.line()
    peer.say("334 UGFzc3dvcmQ6")
    peer.line()


def _echoed_later(peer: Peer) -> None:
    line = peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH PLAIN"))
    peer.say("235 welcome")
    peer.until("MAIL")
    peer.say(f"550 5.5.1 after {line}")
    peer.until("QUIT")


@pytest.mark.parametrize("dialogue", [_refused, _lost, _garbled, _lost_in_login, _echoed_later])
def test_errors_hide_them(dialogue: Callable[[Peer], None]) -> None:
    """Refused, lost and garbled logins, and servers that echo the command."""
    with RawServer(dialogue) as server:
        relay = Transport(URL.format(host=server.host, port=server.port))
        with pytest.raises(mailbridge.MailError) as caught:
            relay.send(ENVELOPE, CONTENT)
        _assert_error_hides(caught.value)
        assert "C: AUTH" in "\n".join(caught.value.transcript)
        if dialogue is not _echoed_later:
            smtp = client(server)
            with pytest.raises(mailbridge.MailError) as caught:
                smtp.login(USER, PASSWORD)
            _assert_error_hides(caught.value)
            smtp.close()


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("level", [1, 2])
def test_debug_output(capsys: pytest.CaptureFixture[str], mechanism: str, level: int) -> None:
    """Debug output: the dialogue without credentials, whoever sends them."""
    digest = hashlib.md5(PASSWORD.encode()).hexdigest()
    with ScriptedServer(users={USER: PASSWORD}, mechanisms=[mechanism]) as smtpd:
        with client(smtpd) as smtp:
            smtp.set_debuglevel(level)
            smtp.login(USER, PASSWORD)
            smtp.sendmail(SENDER, TO, CONTENT)
        with client(smtpd) as smtp:
            smtp.set_debuglevel(level)
            smtp.ehlo()
            smtp.user, smtp.password = USER, PASSWORD
            plain = base64.b64encode(smtp.auth_plain().encode()).decode()
            smtp.docmd("auth plain", plain[:-4])
            if mechanism == "LOGIN":
                assert smtp.docmd("AUTH LOGIN")[0] == 334
                smtp.docmd(base64.b64encode(USER.encode()).decode())
                assert smtp.docmd(base64.b64encode(PASSWORD.encode()).decode())[0] == 235
            smtp.docmd("AUTH", f"PLAIN {plain}")
            smtp.putcmd(f"AUTH PLAIN {plain}")
            smtp.getreply()
            assert_hidden(repr(smtp), vars(smtp))
    shown = capsys.readouterr()
    assert f"AUTH {mechanism}" in shown.err
    assert "MAIL FROM" in shown.err
    assert "text" not in shown.err  # the content
    assert digest not in shown.err
    assert_hidden(shown.err, shown.out)


def test_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(users={USER: PASSWORD}) as smtpd:
        smtpd.refuse("*", times=1)
        relay = Transport(URL.format(host=smtpd.host, port=smtpd.port), on_refused="raise_if_all")
        with pytest.raises(mailbridge.RecipientsRefused):
            relay.send(ENVELOPE, CONTENT)
        relay.send(ENVELOPE, CONTENT)
    assert_hidden(caplog.text)


# User names: masked in what is shown of a login, and left alone elsewhere.

CHALLENGES = {
    "LOGIN": [b"Username:", b"Password of postmaster:"],
    "CRAM-MD5": [b"<1.postmaster@mx.example>"],
    "XOAUTH2": [b'{"status": "401", "scope": "mail of postmaster"}'],
    "OAUTHBEARER": [b'{"status": "invalid_token", "scope": "mail of postmaster"}'],
}
EVERY = ("PLAIN", "EXTERNAL", "SCRAM-SHA-1", "SCRAM-SHA-256", *CHALLENGES)
ENDS = {
    "refused": ("535-5.7.8 postmaster may not", "535 5.7.8 <Postmaster> is unknown"),
    "refused, as it was said": ("535-5.7.8 cG9zdG1hc3Rlcg==", "535 5.7.8 (cG9zdG1hc3Rlcg==)"),
    "garbled": ("who is postmaster?",),
    "contradicts itself": ("535-5.7.8 no, postmaster", "235 yes, postmaster"),
    "lost": (),
}


def _naming(mechanism: str, *end: str) -> Callable[[Peer], None]:
    """A server that names the user, and echoes the response, wherever it can in a login."""

    def dialogue(peer: Peer) -> None:
        line = peer.until("AUTH", ehlo=("250-raw.example", f"250 AUTH {mechanism}"))
        for challenge in CHALLENGES.get(mechanism, ()):
            peer.say(f"334 {base64.b64encode(challenge).decode()}")
            line = peer.line()
        if end:
            peer.say(*(part.replace("ECHO", line) for part in end))
        if end and end[0].startswith("235"):
            peer.until("MAIL")
            peer.say("550 5.7.1 postmaster is a word like others here")
            peer.until("QUIT")

    return dialogue


def _named_relay(server: RawServer, mechanism: str) -> Relay:
    secret: dict[str, object] = {"password": PASSWORD}
    if mechanism in ("XOAUTH2", "OAUTHBEARER"):
        secret = {"token_provider": lambda: "a-token"}
    elif mechanism == "EXTERNAL":
        secret = {"ssl_context": ssl.create_default_context()}
    return Relay.from_url(server.url, username=USER, auth_mechanisms=[mechanism], **secret)


def assert_nameless(*texts: object) -> None:
    named = [USER.encode(), *(each for group in CHALLENGES.values() for each in group[-1:])]
    encoded = [base64.b64encode(each).decode() for each in named]
    for text in map(str, texts):
        # How a Relay shows itself, in a frame that has one.
        text = text.replace(f"//{USER}:***@", "//")
        assert USER not in text.lower()
        assert not any(each in text for each in encoded)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mechanism", EVERY)
def test_user_name_is_masked(mechanism: str, end: str, caplog: pytest.LogCaptureFixture) -> None:
    """By each mechanism: transcript, error, pickle, report, log and traceback."""
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with RawServer(
        _naming(
            mechanism,
            *ENDS[end],
        )
    ) as server:
        relay = _named_relay(server, mechanism)
        transport = Transport(relay, listener=lambda side, lines: shown.extend(lines))
        with pytest.raises(mailbridge.MailError) as caught:
            transport.send(ENVELOPE, CONTENT)
    error = caught.value
    assert f"C: AUTH {mechanism}" in "\n".join(error.transcript)
    assert "***" in "\n".join(error.transcript)
    assert_nameless(error, repr(error), error.args, error.transcript, vars(error), shown)
    assert_nameless(pickle.dumps(error).decode("utf-8", "replace"), _with_locals(error))
    assert error.report is not None
    assert_nameless(repr(error.report), error.report.to_dict(), caplog.text)


@pytest.mark.parametrize(
    "first", [b"r=postmaster,s=QQ==,i=1", b"postmaster", b"e=no-postmaster", b"r=x,s=QQ==,i=1"]
)
def test_user_name_is_masked_where_a_server_proves_nothing(first: bytes) -> None:
    def dialogue(peer: Peer) -> None:
        peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH SCRAM-SHA-256"))
        peer.say(f"334 {base64.b64encode(first).decode()}")
        assert peer.line() == "*"
        peer.say("501 good-bye, postmaster")
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        with pytest.raises(mailbridge.ProtocolViolation) as caught:
            Transport(_named_relay(server, "SCRAM-SHA-256")).send(ENVELOPE, CONTENT)
    assert_nameless(caught.value, repr(caught.value), caught.value.transcript)
    if USER.encode() not in first:
        assert_nameless(_with_locals(caught.value))


@pytest.mark.parametrize("mechanism", EVERY[:1] + EVERY[2:6])
@pytest.mark.parametrize("end", ENDS)
def test_user_name_is_masked_in_debug_output(
    mechanism: str, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with RawServer(_naming(mechanism, *ENDS[end])) as server:
        smtp = client(server)
        smtp.set_debuglevel(1)
        with pytest.raises(mailbridge.MailError) as caught:
            smtp.login(USER, PASSWORD)
        assert_nameless(caught.value, caught.value.transcript, _with_locals(caught.value))
        smtp.close()
    shown = capsys.readouterr().err
    assert f"AUTH {mechanism}" in shown
    assert_nameless(shown)


def test_user_name_is_masked_in_exchanges_of_the_callers_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with RawServer(_naming("LOGIN", "535 5.7.8 postmaster is unknown")) as server:
        with client(server) as smtp:
            smtp.set_debuglevel(1)
            smtp.user, smtp.password = USER, PASSWORD
            smtp.ehlo()
            with pytest.raises(mailbridge.AuthenticationFailed) as caught:
                smtp.auth("LOGIN", smtp.auth_login)
            assert_nameless(caught.value, caught.value.transcript)
        with client(server) as smtp:
            smtp.set_debuglevel(1)
            smtp.user = USER
            smtp.ehlo()
            smtp.docmd("AUTH LOGIN")
            smtp.docmd(base64.b64encode(USER.encode()).decode())
            assert smtp.docmd(base64.b64encode(PASSWORD.encode()).decode())[0] == 535
    shown = capsys.readouterr().err
    assert shown.count("*** is unknown") == 2
    assert_nameless(shown)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("initial", [True, False])
def test_password_is_masked_in_exchanges_of_the_callers_own(mechanism: str, initial: bool) -> None:
    """The server repeats what it was told, in the reply to AUTH and later."""

    def dialogue(peer: Peer) -> None:
        rounds = {"PLAIN": 0 if initial else 1, "LOGIN": 1 if initial else 2}[mechanism]
        peer.until("AUTH", ehlo=("250-raw.example", f"250 AUTH {mechanism}"))
        for _ in range(rounds):
            peer.say("334 ")
            peer.line()
        peer.say(f"535 5.7.8 {PASSWORD} is wrong")
        peer.until("NOOP")
        peer.say(f"250 still {PASSWORD}")
        peer.until("QUIT")

    says = iter([f"\0{USER}\0{PASSWORD}"] if mechanism == "PLAIN" else [USER, PASSWORD])

    def authobject(challenge: bytes | None = None) -> str:
        return next(says)

    with RawServer(dialogue) as server, client(server) as smtp:
        smtp.user, smtp.password = USER, PASSWORD
        smtp.ehlo()
        with pytest.raises(mailbridge.AuthenticationFailed, match=r"\*\*\* is wrong") as caught:
            smtp.auth(mechanism, authobject, initial_response_ok=initial)
        _assert_error_hides(caught.value)
        assert smtp.noop() == (250, b"still ***")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "EXTERNAL"])
def test_user_name_after_a_login(mechanism: str) -> None:
    """The welcome is masked. What is said of envelopes is not: the name may be a common word."""
    with RawServer(_naming(mechanism, "235 2.7.0 welcome, postmaster")) as server:
        with pytest.raises(mailbridge.SenderRefused, match="postmaster is a word") as caught:
            Transport(_named_relay(server, mechanism)).send(ENVELOPE, CONTENT)
    said = [line for line in caught.value.transcript if line.startswith("S: ")]
    assert "S: 235 2.7.0 welcome, ***" in said
    assert "S: 550 5.7.1 postmaster is a word like others here" in said


@pytest.mark.parametrize(
    "url",
    [
        "smtp://user:tr0ub4dor&3/ß@mail.example.org",
        "smtp://user:tr0ub4dor#3@mail.example.org",
        "smtp://user:tr0ub4dor?3@mail.example.org",
        "smtp://user:tr0ub4dor@mail.example.org:smtp",
        "smtp://user:tr0ub4dor@mail.example.org?tls=x",
        "smtp://user:[tr0ub4dor@mail.example.org",
        "user:tr0ub4dor@mail.example.org",
    ],
)
def test_malformed_url(url: str) -> None:
    """A password that was not percent-encoded does not end up in the error."""
    with pytest.raises(ValueError, match=r"url|tls") as caught:
        Relay.from_url(url)
    assert_hidden("".join(traceback.format_exception_only(caught.value)), caught.value.__cause__)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    "mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "LOGIN", "XOAUTH2", "OAUTHBEARER"]
)
def test_every_mechanism_hides_them(mechanism: str, caplog: pytest.LogCaptureFixture) -> None:
    """A refused login by each mechanism, then the refusal that is remembered."""
    caplog.set_level(logging.DEBUG)
    token = "tr0ub4dor-token"
    with ScriptedServer(users={USER: "other"}, mechanisms=[mechanism]) as smtpd:
        secret: dict[str, object] = {"password": PASSWORD}
        if mechanism in ("XOAUTH2", "OAUTHBEARER"):
            secret = {"token_provider": lambda: token}
        relay = Relay.from_url(smtpd.url, username=USER, timeout=5, **secret)
        for _ in range(2):
            with pytest.raises(mailbridge.AuthenticationFailed) as caught:
                Transport(relay).send(ENVELOPE, CONTENT)
            _assert_error_hides(caught.value)
        encoded = f"auth=Bearer {token}".encode()
        for text in (str(caught.value), _with_locals(caught.value), caplog.text):
            assert base64.b64encode(encoded).decode()[4:-4] not in text
            assert_hidden(text)
