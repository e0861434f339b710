"""The same calls to smtplib and to mailbridge, on twin servers: same results, same exceptions.

What is different on purpose is in the second half, each with the rule that settles it.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import pytest

import mailbridge
from mailbridge.testing import ScriptedServer

TEXT = "Subject: hi\r\n\r\nHello\r\n"
MAIL = ("a@x.org", ["b@x.org", "c@x.org"], TEXT)
Setup = Callable[[ScriptedServer], object]
Calls = Callable[[Any], Any]


class Twin:
    """One library with a server of its own; `do` notes what came of a call."""

    def __init__(self, library: Any, setup: Setup, **options: Any) -> None:
        self.library = library
        self.options = options
        self.setup = setup
        self.outcome: list[Any] = []

    def run(self, calls: Calls) -> ScriptedServer:
        with ScriptedServer(**self.options) as server:
            # One command at a time, as smtplib has it.
            server.without("PIPELINING", "CHUNKING")
            self.setup(server)
            smtp = self.library.SMTP(local_hostname="client.example", timeout=10)
            try:
                smtp.connect(server.host, server.port)
                for call in calls(smtp):
                    self.outcome.append(self.noted(call))
            finally:
                smtp.close()
        return server

    def noted(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (OSError, ValueError) as error:
            theirs = next(
                cls for cls in type(error).__mro__ if cls.__module__ in ("smtplib", "builtins")
            )
            names = ("smtp_code", "smtp_error", "sender", "recipients")
            known = {n: getattr(error, n) for n in names if hasattr(error, n)}
            return theirs.__name__, known


def twins(setup: Setup, calls: Calls, **options: Any) -> tuple[Twin, Twin, list[list[str]]]:
    """Run the calls with both; return the two and what each said to its server."""
    pair = Twin(smtplib, setup, **options), Twin(mailbridge, setup, **options)
    said = []
    for twin in pair:
        transcript = twin.run(calls).transcript
        said.append([line.upper() for line in transcript.splitlines() if " C: " in line])
    return *pair, said


def message() -> EmailMessage:
    made = EmailMessage()
    made["From"] = "Me <a@x.org>"
    made["To"] = "b@x.org, C <c@x.org>"
    made["Bcc"] = "d@x.org"
    made.set_content("Hello\n")
    return made


def nothing(server: ScriptedServer) -> None:
    pass


SAME: dict[str, tuple[Setup, Calls]] = {
    "hello": (nothing, lambda s: [s.ehlo, s.helo, s.noop, s.rset, s.quit]),
    "ehlo_name": (nothing, lambda s: [lambda: s.ehlo("x.example"), lambda: s.helo("y.example")]),
    "features": (
        nothing,
        lambda s: [
            lambda: s.has_extn("size"),
            s.ehlo,
            lambda: s.has_extn("SIZE"),
            lambda: bool(s.does_esmtp),
            lambda: dict(s.esmtp_features),
            lambda: s.ehlo_resp,
        ],
    ),
    "sendmail": (nothing, lambda s: [lambda: s.sendmail(*MAIL), lambda: s.sendmail(*MAIL), s.quit]),
    "sendmail_string": (nothing, lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", TEXT)]),
    "null_sender": (nothing, lambda s: [lambda: s.sendmail("", "b@x.org", TEXT)]),
    "null_sender_brackets": (nothing, lambda s: [lambda: s.sendmail("<>", "b@x.org", TEXT)]),
    "display_names": (
        nothing,
        lambda s: [lambda: s.sendmail("Me <a@x.org>", ['"B, b" <b@x.org>'], TEXT)],
    ),
    "dots": (nothing, lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", ".a\r\n..b\r\n.\r\n")]),
    "no_last_line_end": (nothing, lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", "a")]),
    "bytes": (nothing, lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", b"a\r\nb\r\n")]),
    "options": (
        nothing,
        lambda s: [lambda: s.sendmail(*MAIL, ["BODY=8BITMIME"], ["NOTIFY=NEVER"])],
    ),
    "partial": (lambda v: v.refuse("b@x.org"), lambda s: [lambda: s.sendmail(*MAIL)]),
    "all_refused": (
        lambda v: v.refuse("*"),
        lambda s: [lambda: s.sendmail(*MAIL), lambda: s.sendmail(*MAIL), s.noop],
    ),
    "sender_refused": (
        lambda v: v.reply("MAIL", "550 5.7.1 No"),
        lambda s: [lambda: s.sendmail(*MAIL), s.noop],
    ),
    "content_refused": (
        lambda v: v.reply("CONTENT", "554 5.6.0 No", times=1),
        lambda s: [lambda: s.sendmail(*MAIL)],
    ),
    "helo_fallback": (
        lambda v: v.reply("EHLO", "502 What?"),
        lambda s: [lambda: s.sendmail(*MAIL, ["BODY=8BITMIME"]), lambda: bool(s.does_esmtp)],
    ),
    "helo_refused": (
        lambda v: (v.reply("EHLO", "502 What?"), v.reply("HELO", "550 No")),
        lambda s: [lambda: s.sendmail(*MAIL)],
    ),
    "low_level": (
        nothing,
        lambda s: [
            s.ehlo,
            lambda: s.mail("a@x.org", ["BODY=8BITMIME"]),
            lambda: s.rcpt("b@x.org", ["NOTIFY=NEVER"]),
            lambda: s.data("a\nb\n"),
            lambda: s.docmd("NOOP", "x"),
            lambda: s.verify("b@x.org"),
            lambda: s.expn("list@x.org"),
            s.help,
        ],
    ),
    "putcmd": (nothing, lambda s: [lambda: s.putcmd("NOOP"), s.getreply, lambda: s.docmd("BOGUS")]),
    "multi_line": (
        lambda v: v.reply("NOOP", "250-a\n250-\n250 c"),
        lambda s: [s.noop, lambda: s.docmd("NOOP")],
    ),
    "injection": (
        nothing,
        lambda s: [lambda: s.docmd("NOOP", "x\r\nRSET"), lambda: s.putcmd("a\nb"), s.noop],
    ),
    "not_ascii": (nothing, lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", "é")]),
    "starttls_not_offered": (nothing, lambda s: [s.starttls, s.noop]),
    "auth_not_offered": (nothing, lambda s: [lambda: s.login("u", "p"), s.noop]),
    "smtputf8_not_offered": (
        lambda v: v.without("SMTPUTF8"),
        lambda s: [s.ehlo, lambda: s.mail("a@x.org", ["SMTPUTF8"]), s.noop],
    ),
    "dropped": (lambda v: v.drop("NOOP"), lambda s: [s.noop, s.noop]),
    "send_message": (nothing, lambda s: [lambda: s.send_message(message())]),
    "send_message_given": (
        nothing,
        lambda s: [lambda: s.send_message(message(), "x@x.org", ["y@x.org"])],
    ),
    "quit_twice": (nothing, lambda s: [s.quit, s.quit, s.noop]),
    "rset_in_a_transaction": (
        nothing,
        lambda s: [s.ehlo, lambda: s.mail("a@x.org"), s.rset, lambda: s.sendmail(*MAIL)],
    ),
    "mail_after_421": (
        lambda v: v.reply("MAIL", "421 4.3.2 Bye"),
        lambda s: [lambda: s.sendmail(*MAIL), s.noop],
    ),
}


# The same comes of it, on another way.
OTHER_WORDS = {
    "content_refused": "no RSET, since the transaction ended with the reply (RFC 5321 4.1.1.4)",
    "no_last_line_end": "SIZE counts the CRLF that is added (RFC 1870 section 5)",
    "not_ascii": "refused before EHLO",
}


@pytest.mark.parametrize("name", SAME)
def test_same(name: str) -> None:
    setup, calls = SAME[name]
    theirs, ours, said = twins(setup, calls)
    assert ours.outcome == theirs.outcome
    if name not in OTHER_WORDS:
        assert said[1] == said[0]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("password", ["password", "wrong"])
def test_login(mechanism: str, password: str) -> None:
    theirs, ours, _ = twins(
        nothing,
        lambda s: [lambda: s.login("user", password), s.noop],
        users={"user": "password"},
        mechanisms=[mechanism],
    )
    assert ours.outcome == theirs.outcome


@pytest.mark.parametrize("greeting", ["554 No", "421 4.3.2 Busy"])
def test_a_refused_greeting_in_the_constructor(greeting: str) -> None:
    for library in (smtplib, mailbridge):
        with ScriptedServer() as server:
            server.reply("GREETING", greeting)
            with pytest.raises(smtplib.SMTPConnectError) as caught:
                library.SMTP(server.host, server.port)
            assert caught.value.smtp_code == int(greeting[:3])


# What is different on purpose (PROTOCOL: "where today's Python clients are wrong").


def ours_and_theirs(setup: Setup, calls: Calls, **options: Any) -> tuple[list[Any], list[Any]]:
    theirs, ours, _ = twins(setup, calls, **options)
    return ours.outcome, theirs.outcome


DIFFERENT: dict[str, tuple[Setup, Calls, Any, Any]] = {
    # RFC 5321 section 3.3: RSET, so that the next MAIL is not nested.
    "data_refused_then_the_next_mail": (
        lambda v: v.reply("DATA", "554 No", times=1),
        lambda s: [lambda: s.sendmail(*MAIL), lambda: s.sendmail(*MAIL)],
        {},
        "SMTPSenderRefused",
    ),
    # RFC 5321 section 4.3.2: the first digit.
    "final_251": (
        lambda v: v.reply("CONTENT", "251 Ok"),
        lambda s: [lambda: s.sendmail(*MAIL)],
        {},
        "SMTPDataError",
    ),
    "rcpt_252": (
        lambda v: v.reply("RCPT", "252 Perhaps"),
        lambda s: [lambda: s.sendmail(*MAIL)],
        {},
        "SMTPRecipientsRefused",
    ),
    # RFC 5321 section 4.2.1: codes of one reply must not differ.
    "mismatching_codes": (
        lambda v: v.reply("NOOP", b"250-a\r\n550 b\r\n"),
        lambda s: [s.noop],
        "SMTPServerDisconnected",
        (550, b"a\nb"),
    ),
    # RFC 5321 section 4.2: [2-5][0-5][0-9].
    "code_2_5": (
        lambda v: v.reply("NOOP", b"2_5 a\r\n"),
        lambda s: [s.noop],
        "SMTPServerDisconnected",
        (25, b"a"),
    ),
    # RFC 5321 section 2.3.8: no bare LF on the wire.
    "bare_lf": (
        nothing,
        lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", b"a\nb\r\n")],
        {},
        "SMTPDataError",
    ),
    # Refused here, not rewritten to <a@b.cSIZE=1> (RFC 5321 section 4.1.2).
    "space_in_an_address": (
        nothing,
        lambda s: [lambda: s.sendmail("a@b.c SIZE=1", "b@x.org", TEXT)],
        "ValueError",
        {},
    ),
    "parameter_in_an_address": (
        nothing,
        lambda s: [lambda: s.sendmail("<a@b.c> BODY=7BIT", "b@x.org", TEXT)],
        "ValueError",
        {},
    ),
    # RFC 5321 section 2.3.5: A-labels.
    "idn": (
        nothing,
        lambda s: [lambda: s.sendmail("a@bücher.example", "b@bücher.example", TEXT)],
        {},
        "UnicodeEncodeError",
    ),
    "no_recipients": (
        nothing,
        lambda s: [lambda: s.sendmail("a@x.org", [], TEXT)],
        "ValueError",
        "SMTPRecipientsRefused",
    ),
    # RFC 1870 section 6.1: over the limit that the server has told.
    "too_large": (
        lambda v: v.with_("SIZE 5"),
        lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", TEXT)],
        "SMTPDataError",
        "SMTPSenderRefused",
    ),
    # RFC 6152 section 3: "must not, under any circumstances".
    "eight_bits": (
        lambda v: v.without("8BITMIME"),
        lambda s: [lambda: s.sendmail("a@x.org", "b@x.org", b"\xff\r\n")],
        "SMTPNotSupportedError",
        {},
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name: str) -> None:
    setup, calls, expected, theirs_expected = DIFFERENT[name]
    ours, theirs = ours_and_theirs(setup, calls)
    assert said_of(ours[-1], expected) == expected
    assert said_of(theirs[-1], theirs_expected) == theirs_expected


def said_of(outcome: Any, wanted: Any) -> Any:
    """The name of the exception alone, where the table holds a name."""
    return outcome[0] if isinstance(wanted, str) else outcome


def test_a_refused_greeting_in_connect() -> None:
    # RFC 5321 section 3.1: smtplib returns the code and carries on.
    with ScriptedServer() as server:
        server.reply("GREETING", "554 No")
        smtp = mailbridge.SMTP()
        with pytest.raises(mailbridge.SMTPConnectError):
            smtp.connect(server.host, server.port)
        assert smtp.sock is None


def test_wrong_credentials_are_tried_once() -> None:
    # RFC 4954 section 6: smtplib tries every mechanism, and the account is locked.
    for library, times in ((smtplib, 3), (mailbridge, 1)):
        with ScriptedServer(users={"user": "password"}) as server:
            with library.SMTP(server.host, server.port) as smtp:
                with pytest.raises(smtplib.SMTPAuthenticationError):
                    smtp.login("user", "wrong")
            assert server.transcript.count("535 ") == times


def test_after_421_nobody_is_taken_for_reached() -> None:
    # smtplib names the one recipient at which it happened.
    for library, named in ((smtplib, 1), (mailbridge, 2)):
        with ScriptedServer() as server:
            server.reply("RCPT", "421 4.3.2 Bye", recipient="c@x.org")
            smtp = library.SMTP(server.host, server.port)
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                smtp.sendmail(*MAIL)
            smtp.close()
            assert len(caught.value.recipients) == named


def test_what_a_server_offered_is_forgotten_with_it() -> None:
    # RFC 5321 section 4.1.4: a new session begins with EHLO.
    with ScriptedServer() as first, ScriptedServer(extensions=()) as second:
        smtp = mailbridge.SMTP(first.host, first.port)
        smtp.sendmail(*MAIL)
        smtp.close()
        smtp.connect(second.host, second.port)
        assert smtp.sendmail(*MAIL) == {}
        smtp.quit()
    assert second.messages[0].mail_parameters == ()


def test_debug_output_shows_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(users={"user": "password"}, mechanisms=["PLAIN"]) as server:
        with mailbridge.SMTP(server.host, server.port) as smtp:
            smtp.set_debuglevel(1)
            smtp.login("user", "password")
    assert "AUTH PLAIN ***" in capsys.readouterr().err


def test_a_time_out_is_a_timeout_error() -> None:
    with ScriptedServer() as server:
        server.silent("NOOP")
        smtp = mailbridge.SMTP(server.host, server.port, timeout=0.4)
        with pytest.raises(TimeoutError) as caught:
            smtp.noop()
        assert isinstance(caught.value, smtplib.SMTPServerDisconnected)
        smtp.close()


def test_certificates_are_verified() -> None:
    from mailbridge.testing import TestCA

    with TestCA() as ca, ScriptedServer(tls_context=ca.server_context("localhost")) as server:
        with mailbridge.SMTP("localhost", server.port) as smtp:
            with pytest.raises(mailbridge.CertificateError):
                smtp.starttls()


def test_lmtp_reads_one_reply_for_each_recipient() -> None:
    # RFC 2033 section 4.2: smtplib reads one and is out of step.
    with ScriptedServer(lmtp=True) as server:
        server.reply("CONTENT", "452 4.2.2 Full", recipient="c@x.org")
        with mailbridge.LMTP(server.host, server.port) as lmtp:
            assert lmtp.sendmail(*MAIL) == {"c@x.org": (452, b"4.2.2 Full")}
            assert lmtp.noop()[0] == 250
