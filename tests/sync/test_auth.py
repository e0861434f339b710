"""AUTH: which mechanism, how often, and how it ends."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest

import mailbridge
from mailbridge.testing import ScriptedServer
from tests.sync.servers import LOCK_STEP, Peer, RawServer
from tests.sync.support import CONTENT, ENVELOPE, SENDER, TO, client, heard, transport, verbs

USERS = {"user": "pa ss wörd", "ü": "ß"}
ALL = ("CRAM-MD5", "PLAIN", "LOGIN")
LOGIN = {"username": "user", "password": "pa ss wörd"}


def server(*mechanisms: str, users: dict[str, str] | None = None) -> ScriptedServer:
    return ScriptedServer(
        users=users or USERS, mechanisms=mechanisms or ALL, require_auth=True, extensions=LOCK_STEP
    )


@pytest.mark.parametrize("mechanism", ALL)
@pytest.mark.parametrize(("user", "password"), USERS.items())
def test_non_ascii_password(mechanism: str, user: str, password: str) -> None:
    """Non-ASCII password: UTF-8, with each mechanism."""
    with server(mechanism) as smtpd:
        with client(smtpd) as smtp:
            assert smtp.login(user, password)[0] == 235
            smtp.sendmail(SENDER, TO, CONTENT)
        transport(smtpd, username=user, password=password).send(ENVELOPE, CONTENT)
        assert [message.user for message in smtpd.messages] == [user, user]


@pytest.mark.parametrize("keyword", ["auth plain", "Auth Plain", "AUTH=PLAIN", "AUTH plain x-odd"])
def test_mechanism_case(keyword: str) -> None:
    """Mechanism list case: `auth plain` is PLAIN; and the old `AUTH=` is understood."""

    def dialogue(peer: Peer) -> None:
        peer.until("AUTH", ehlo=("250-raw.example", f"250 {keyword}"))
        peer.say("235 2.7.0 welcome")
        peer.until("QUIT")
        peer.say("221 bye")

    with RawServer(dialogue) as raw:
        with client(raw) as smtp:
            assert smtp.login("user", "secret") == (235, b"2.7.0 welcome")
        raw.wait_until_closed()
    assert raw.peers[0].commands[1] == "AUTH PLAIN AHVzZXIAc2VjcmV0"


@pytest.mark.parametrize("refusal", [None, "454 4.7.0 temporary", "432 4.7.12 change", "500 no"])
def test_refused_credentials_are_tried_once(refusal: str | None) -> None:
    """535 and 454: one submission per login, whatever other mechanisms there are: no lock-out."""
    with server() as smtpd:
        if refusal:
            smtpd.reply("AUTH", refusal)
        with client(smtpd) as smtp:
            with pytest.raises(mailbridge.SMTPAuthenticationError) as caught:
                smtp.login("user", "wrong")
        assert caught.value.smtp_code == int(refusal[:3] if refusal else 535)
        assert caught.value.retryable == (caught.value.smtp_code < 500)
        assert verbs(smtpd).count("AUTH") == 1
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            transport(smtpd, username="user", password="wrong").send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert verbs(smtpd).count("AUTH") == 2
        assert smtpd.connections == 2


@pytest.mark.parametrize("refusal", ["534 5.7.9 too weak", "504 5.5.4 not that one"])
def test_refused_mechanism_is_followed_by_the_next(refusal: str) -> None:
    """534 and 504 speak of the mechanism: the next one is tried."""
    with server() as smtpd:
        smtpd.reply("AUTH", refusal, times=1)
        with client(smtpd) as smtp:
            assert smtp.login("user", USERS["user"])[0] == 235
        assert verbs(smtpd).count("AUTH") == 2
        smtpd.reply("AUTH", refusal)
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(smtpd, **LOGIN).send(ENVELOPE, CONTENT)


def test_503_is_no_success() -> None:
    """503 to AUTH on a fresh session: a failure, nothing is sent unauthenticated."""
    with ScriptedServer(users=USERS) as smtpd:
        smtpd.reply("AUTH", "503 5.5.1 authenticated already")
        smtp = client(smtpd)
        with pytest.raises(mailbridge.SMTPAuthenticationError):
            smtp.login("user", "pa ss wörd")
        smtp.close()
        with pytest.raises(mailbridge.AuthenticationFailed):
            transport(smtpd, **LOGIN).send(ENVELOPE, CONTENT)
        assert smtpd.messages == ()


@pytest.mark.parametrize("offer", [None, ("NTLM", "GSSAPI")], ids=["no AUTH", "no common one"])
def test_no_way_to_log_in(offer: tuple[str, ...] | None) -> None:
    """AUTH not offered, or no common mechanism: an error; never on unauthenticated."""
    with ScriptedServer(users=USERS if offer else None, mechanisms=offer or ALL) as smtpd:
        smtp = client(smtpd)
        with pytest.raises(mailbridge.SMTPException) as caught:
            smtp.login("user", "pa ss wörd")
        assert offer or "many servers offer a login only inside it" in caught.value.advice
        assert offer or caught.value.phase == "auth"
        smtp.close()
        with pytest.raises(mailbridge.MailError) as caught:
            transport(smtpd, **LOGIN).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert "MAIL" not in verbs(smtpd)


# -- the exchange


def _auth(answers: list[str], done: list[str]) -> Callable[[Peer], None]:
    def dialogue(peer: Peer) -> None:
        peer.until("AUTH", ehlo=("250-raw.example", "250 AUTH PLAIN LOGIN CRAM-MD5"))
        for answer in answers:
            peer.say(answer)
            done.append(peer.line())
        peer.say("501 5.7.0 cancelled" if done[-1] == "*" else "250 Ok")
        peer.until("QUIT")
        peer.say("221 bye")

    return dialogue


def test_empty_initial_response_is_an_equals_sign() -> None:
    """Empty initial response: `=` (RFC 4954 section 4)."""
    done: list[str] = []
    with RawServer(_auth(["235 welcome"], done)) as raw:
        with client(raw) as smtp:
            smtp.ehlo()
            smtp.auth("EXTERNAL", lambda challenge=None: "")
            smtp.noop()
        raw.wait_until_closed()
        assert raw.peers[0].commands[1] == "AUTH EXTERNAL ="


def test_initial_response_over_512_is_withheld() -> None:
    """IR longer than the 512 limit: not sent with AUTH, but after the empty challenge."""
    password = "x" * 600
    with server("PLAIN", users={"user": password}) as smtpd:
        with client(smtpd) as smtp:
            assert smtp.login("user", password)[0] == 235
        assert heard(smtpd)[1:3] == ["AUTH PLAIN", "***"]
        transport(smtpd, username="user", password=password).send(ENVELOPE, CONTENT)


def test_initial_response_may_be_withheld() -> None:
    with server("PLAIN") as smtpd, client(smtpd) as smtp:
        assert smtp.login("user", USERS["user"], initial_response_ok=False)[0] == 235
        assert heard(smtpd)[1:3] == ["AUTH PLAIN", "***"]


def test_cancelling() -> None:
    """Cancelling: an exception in authobject sends `*`, and the session stays in step."""

    def authobject(challenge: bytes | None = None) -> str | None:
        return None if challenge is None else str(1 / 0)

    done: list[str] = []
    with RawServer(_auth(["334 YWJj"], done)) as raw:
        with client(raw) as smtp:
            smtp.ehlo()
            with pytest.raises(ZeroDivisionError):
                smtp.auth("CRAM-MD5", authobject)
            assert smtp.noop()[0] == 250
    assert done == ["*"]


def test_interrupt_in_the_password_prompt_closes() -> None:
    """Ctrl-C in authobject: the next command must not be taken for the response."""

    def authobject(challenge: bytes | None = None) -> str | None:
        if challenge is not None:
            raise KeyboardInterrupt
        return None

    done: list[str] = []
    with RawServer(_auth(["334 YWJj"], done)) as raw:
        smtp = client(raw)
        smtp.ehlo()
        with pytest.raises(KeyboardInterrupt):
            smtp.auth("CRAM-MD5", authobject)
        in_step = smtp.sock is None or smtp.noop() == (250, b"2.0.0 Ok")
        smtp.close()
    assert in_step
    assert done in ([], ["*"])


@pytest.mark.parametrize("challenge", ["!!!PDE=@@", "PDE", "PD E=", "=", "PDE=\xff"])
def test_lenient_base64_is_refused(challenge: str) -> None:
    """Lenient base64: a challenge that is not base64 is rejected and cancelled."""
    done: list[str] = []
    with RawServer(_auth([f"334 {challenge}"], done)) as raw:
        smtp = client(raw)
        smtp.ehlo()
        smtp.esmtp_features["auth"] = "CRAM-MD5"
        with pytest.raises(mailbridge.MailError):
            smtp.login("user", "secret")
        smtp.close()
        raw.wait_until_closed()
    assert done == ["*"]


def test_endless_challenges() -> None:
    """Endless challenges: a few rounds, then a protocol error and the end of the session."""
    challenge = base64.b64encode(b"<1@x>").decode()
    done: list[str] = []
    with RawServer(_auth([f"334 {challenge}"] * 50, done)) as raw:
        smtp = client(raw)
        with pytest.raises(mailbridge.MailError):
            smtp.login("user", "secret")
        assert len(done) < 10
        smtp.close()


def test_endless_challenges_to_a_mechanism_of_the_callers_own() -> None:
    """One that always has an answer: what ends it is the limit on rounds."""
    done: list[str] = []
    with RawServer(_auth(["334 YWJj"] * 50, done)) as raw:
        smtp = client(raw)
        smtp.ehlo()
        with pytest.raises(mailbridge.MailError, match="infinite loop"):
            smtp.auth("X-OWN", lambda challenge=None: "again")
        assert len(done) < 10
        assert smtp.sock is None


def test_huge_challenge() -> None:
    """A huge challenge is bounded like every reply."""
    done: list[str] = []
    with RawServer(_auth([f"334 {'A' * 20_000}"], done)) as raw:
        smtp = client(raw)
        with pytest.raises(mailbridge.ProtocolViolation):
            smtp.login("user", "secret")
        assert smtp.sock is None


# -- without TLS


def test_cram_md5_is_first_without_tls(elsewhere: str) -> None:
    """Where somebody may listen, the mechanism that keeps the password off the wire is used."""
    with server() as smtpd:
        with client(smtpd) as smtp:
            smtp.login("user", USERS["user"])
        transport(smtpd, host=elsewhere, **LOGIN).send(ENVELOPE, CONTENT)
        assert heard(smtpd).count("AUTH CRAM-MD5") == 2


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_password_is_not_sent_in_clear(elsewhere: str, mechanism: str) -> None:
    """AUTH without TLS to another host: refused before anything of it is sent."""
    with server(mechanism) as smtpd:
        with pytest.raises(mailbridge.NotSupported, match="tls='starttls'") as caught:
            transport(smtpd, host=elsewhere, **LOGIN).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert "AUTH" not in verbs(smtpd)
        insecure = transport(smtpd, host=elsewhere, allow_insecure_auth=True, **LOGIN)
        assert insecure.send(ENVELOPE, CONTENT).accepted == (TO,)


@pytest.mark.parametrize("refusal", ["534 5.7.9 not that one", "504 5.5.4 no", "535 5.7.8 no"])
def test_no_way_down_to_a_password_in_clear(elsewhere: str, refusal: str) -> None:
    """CRAM-MD5 refused where somebody may listen: an attacker who says so gets no password."""
    with server("CRAM-MD5", "PLAIN", "LOGIN") as smtpd:
        smtpd.reply("AUTH", refusal)
        with pytest.raises(mailbridge.AuthenticationFailed) as caught:
            transport(smtpd, host=elsewhere, **LOGIN).send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert [line for line in heard(smtpd) if line.startswith("AUTH")] == ["AUTH CRAM-MD5"]


def test_538_says_what_to_do(elsewhere: str, ca: mailbridge.testing.TestCA) -> None:
    """530 and 538, encryption required: the error names the option."""
    context = ca.server_context(elsewhere)
    with ScriptedServer(users=USERS, auth_needs_tls=True, tls_context=context) as smtpd:
        smtpd.with_("AUTH CRAM-MD5")
        with pytest.raises(mailbridge.AuthenticationFailed, match="tls='starttls'"):
            transport(smtpd, host=elsewhere, **LOGIN).send(ENVELOPE, CONTENT)
        options = {"tls": "starttls", "ca_file": ca.ca_file, **LOGIN}
        assert transport(smtpd, host=elsewhere, **options).send(ENVELOPE, CONTENT).accepted


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_unverified_tls_is_not_enough(
    elsewhere: str, ca: mailbridge.testing.TestCA, mode: str
) -> None:
    """RFC 4954 section 14: no PLAIN where the certificate is not verified, unless asked for."""
    context = ca.server_context(elsewhere)
    options = {"host": elsewhere, "tls": mode, "tls_verify": False, **LOGIN}
    with ScriptedServer(
        users=USERS, mechanisms=["PLAIN"], tls_context=context, implicit_tls=mode == "implicit"
    ) as smtpd:
        with pytest.raises(mailbridge.NotSupported, match="verified"):
            transport(smtpd, **options).send(ENVELOPE, CONTENT)
        assert "AUTH" not in verbs(smtpd)
        assert transport(smtpd, allow_insecure_auth=True, **options).send(ENVELOPE, CONTENT)


def test_stripped_starttls_reveals_no_password(
    elsewhere: str, ca: mailbridge.testing.TestCA
) -> None:
    """Opportunistic TLS, STARTTLS stripped on the way: no password in clear."""
    context = ca.server_context(elsewhere)
    with ScriptedServer(users=USERS, mechanisms=["PLAIN"], tls_context=context) as smtpd:
        smtpd.without("STARTTLS")
        with pytest.raises(mailbridge.NotSupported, match="verified"):
            transport(smtpd, host=elsewhere, tls="opportunistic", **LOGIN).open()
        assert verbs(smtpd)[:1] == ["EHLO"]
        assert "AUTH" not in verbs(smtpd)
