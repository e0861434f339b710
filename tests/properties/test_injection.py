"""No text of the caller's becomes a second line, or a second parameter, of any command."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailbridge import SMTP, Envelope, InvalidInput, Reply
from mailbridge.host import check_helo_name
from mailbridge.options import Secret
from mailbridge.protocol import auth
from mailbridge.protocol.command import (
    Auth,
    AuthResponse,
    Command,
    Ehlo,
    Helo,
    Lhlo,
    Raw,
    command_line,
)
from mailbridge.protocol.extension import Extensions
from mailbridge.protocol.mail import Mail, Rcpt
from mailbridge.protocol.sasl import MECHANISMS, Credentials
from mailbridge.protocol.session import Session

pieces = st.sampled_from(["\r\n", "\n", "\r", "\0", " ", "a", "=", "SIZE=1", ">", "<", "\x7f", "é"])
texts = st.one_of(st.text(max_size=12), st.lists(pieces, max_size=8).map("".join))


def one_line(make: Callable[[], Command]) -> bytes | None:
    """The line without its CRLF, if the text was taken; a ValueError is the other way out."""
    try:
        wire = make().wire
    except ValueError:
        return None
    assert wire.endswith(b"\r\n")
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", wire[:-2])
    return wire[:-2]


@given(texts)
@example("x\r\nRSET")
def test_names_of_hosts(name: str) -> None:
    for verb in (Ehlo, Helo, Lhlo):
        line = one_line(lambda verb=verb: verb(name))
        assert line is None or line.count(b" ") == 1
    with contextlib.suppress(ValueError):
        assert " " not in check_helo_name(name)


@given(st.lists(texts, max_size=3), st.booleans())
def test_parameters(parameters: list[str], smtputf8: bool) -> None:
    for make in (
        lambda: Mail("a@x.org", parameters, smtputf8),
        lambda: Rcpt("a@x.org", parameters, smtputf8),
    ):
        line = one_line(make)
        assert line is None or line.count(b" ") == 1 + len(parameters)


@given(texts, st.none() | st.binary(max_size=20))
def test_mechanisms(mechanism: str, response: bytes | None) -> None:
    line = one_line(lambda: Auth(mechanism, response))
    assert line is None or line.count(b" ") == 1 + (response is not None)


@given(st.binary(max_size=30))
def test_responses(response: bytes) -> None:
    line = one_line(lambda: AuthResponse(response))
    assert base64.b64decode(line or b"", validate=True) == response


@given(texts, texts)
def test_lines_of_the_callers_own(verb: str, rest: str) -> None:
    one_line(lambda: Raw(verb, rest))
    try:
        line = command_line(verb, rest)
    except ValueError:
        return
    assert line.count(b"\r\n") == 1


@given(texts, texts)
@example("u\0admin", "p")
@example("u", "p\0q")
def test_credentials(user: str, password: str) -> None:
    for name in MECHANISMS:
        session = Session()
        session.extensions = Extensions(auth=name)
        challenges = [b"334 ", b"334 ", b"535 no"]
        sent: list[bytes] = []
        try:
            login = auth.login(session, Credentials(user, Secret(password)), confidential=True)
            next(login)
            while True:
                sent.append(session.data_to_send())
                session.receive_data((challenges.pop(0) if challenges else b"535 no") + b"\r\n")
                next(login)
        except (OSError, ValueError, StopIteration):
            sent.append(session.data_to_send())
        for line in filter(None, sent):
            assert line.count(b"\r\n") == line.count(b"\n") == line.count(b"\r") == 1
            if line.startswith(b"AUTH PLAIN "):
                # RFC 4616 section 2: a NUL inside a field would forge the next.
                assert base64.b64decode(line[11:]).count(b"\0") == 2


@given(texts, texts, st.lists(texts, max_size=2))
def test_sendmail_checks_before_it_connects(
    sender: str, recipient: str, options: list[str]
) -> None:
    smtp = SMTP(local_hostname="client.example")
    with pytest.raises((ValueError, OSError)) as caught:
        smtp.sendmail(sender, [recipient], "x", options, options)
    if any(char in text for char in "\r\n\0" for text in (sender, recipient, *options)):
        assert isinstance(caught.value, ValueError)


def test_an_envelope_refuses_what_a_command_would() -> None:
    for text in ("a@x.org\r\nRSET", "a@x.org SIZE=1", "<a@x.org> SIZE=1", "a@x.org\0"):
        for make in (lambda t=text: Envelope(t, "b@x.org"), lambda t=text: Envelope(None, t)):
            with pytest.raises(InvalidInput):
                make()


@given(st.binary(max_size=30))
def test_no_reply_is_echoed_into_a_command(reply: bytes) -> None:
    session = Session()
    session.extensions = Extensions.from_reply(Reply(250, (b"mx", b"AUTH " + reply)))
    login = auth.login(session, Credentials("u", Secret("p")), confidential=True)
    try:
        next(login)
    except OSError:
        return
    line = session.data_to_send()
    assert line in (b"AUTH PLAIN AHUAcA==\r\n", b"AUTH LOGIN\r\n", b"AUTH CRAM-MD5\r\n")
