"""Mechanisms and logins without a socket: what is said, in which order, and what ends it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbridge import AuthenticationFailed, InvalidInput, MailError, ProtocolViolation, Secret
from mailbridge.protocol import auth, dialogue, sasl, scram
from mailbridge.protocol.channel import Channel
from mailbridge.protocol.mail import Mail
from mailbridge.protocol.sasl import Credentials
from mailbridge.protocol.session import Dialogue, Session
from mailbridge.testing import ScriptedPeer
from mailbridge.testing.mechanisms import MECHANISMS, Peer

T = TypeVar("T")

PASSWORD = Credentials("user", Secret("pa ss"))
TOKEN = Credentials("user", token=Secret("ya29.token"))
EVERYTHING = (*sasl.MECHANISMS, "NTLM")
TLS12 = Channel(verified=True, certificate=b"der", tls_unique=b"unique")


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def session_with(offer: str, script: str) -> tuple[Session, ScriptedPeer]:
    peer = ScriptedPeer(f"S: 220 x\nC: EHLO me\nS: 250-x\nS: 250 AUTH {offer}\n{script}")
    session = Session()
    peer.run(session, dialogue.greet(session))
    peer.run(session, dialogue.hello(session, "me"))
    return session, peer


# -- ranked by what they protect


def names(credentials: Credentials, channel: Channel, **options: object) -> list[str]:
    options = {"confidential": True, **options}
    found = sasl.ranked(EVERYTHING, credentials, channel, **options)  # type: ignore[arg-type]
    return [mechanism.name for mechanism in found]


def test_inside_verified_tls_the_server_is_proved_first_and_cram_md5_is_last() -> None:
    assert names(PASSWORD, TLS12) == [*sasl.SCRAM, "PLAIN", "LOGIN", "CRAM-MD5"]


def test_where_somebody_listens_the_secret_stays_off_the_wire_as_long_as_it_can() -> None:
    expected = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]
    assert names(PASSWORD, Channel(), confidential=False) == expected


def test_a_token_is_for_bearer_mechanisms_only() -> None:
    assert names(TOKEN, TLS12) == ["OAUTHBEARER", "XOAUTH2"]


def test_external_is_used_only_by_name() -> None:
    assert names(Credentials(""), TLS12) == []
    assert names(Credentials(""), TLS12, allowed=["EXTERNAL"]) == ["EXTERNAL"]


def test_the_callers_own_order_is_kept() -> None:
    allowed = ["LOGIN", "NTLM", "PLAIN"]
    with pytest.raises(KeyError):
        names(PASSWORD, TLS12, allowed=allowed)
    assert names(PASSWORD, TLS12, allowed=["LOGIN", "PLAIN"]) == ["LOGIN", "PLAIN"]


# -- what is said


@pytest.mark.parametrize(
    ("name", "credentials", "first"),
    [
        ("PLAIN", PASSWORD, "\0user\0pa ss"),
        ("XOAUTH2", TOKEN, "user=user\1auth=Bearer ya29.token\1\1"),
        ("OAUTHBEARER", TOKEN, "n,a=user,\1auth=Bearer ya29.token\1\1"),
        (
            "OAUTHBEARER",
            Credentials("a=b,c", token=Secret("t")),
            "n,a=a=3Db=2Cc,\1auth=Bearer t\1\1",
        ),
    ],
)
def test_initial_response(name: str, credentials: Credentials, first: str) -> None:
    session, peer = session_with(name, f"C: AUTH {name} {b64(first)}\nS: 235 2.7.0 in")
    peer.run(session, auth.login(session, credentials, confidential=True))
    assert session.authenticated


def test_external_without_a_name_is_an_equals_sign() -> None:
    session, peer = session_with("EXTERNAL", "C: AUTH EXTERNAL =\nS: 235 in")
    login = auth.login(session, Credentials(""), confidential=True, mechanisms=["EXTERNAL"])
    peer.run(session, login)


@pytest.mark.parametrize(("name", "dummy"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
def test_a_refused_token_is_acknowledged_and_the_reason_told_without_the_token(
    name: str, dummy: str
) -> None:
    """The server's JSON is answered, so that the dialogue ends with its 535."""
    error = b64(json.dumps({"status": "400", "scope": "mail ya29.token \x1b[31m"}))
    first = b64(next(sasl.MECHANISMS[name].start(TOKEN, Channel())) or b"")
    session, peer = session_with(
        name,
        f"C: AUTH {name} {first}\nS: 334 {error}\nC: {dummy}\nS: 535 5.7.8 no\nC: QUIT\nS: 221 bye",
    )
    with pytest.raises(AuthenticationFailed, match="status 400") as caught:
        peer.run(session, auth.login(session, TOKEN, confidential=True))
    assert "ya29" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    peer.run(session, dialogue.quit_(session))


def test_a_token_with_control_characters_is_refused() -> None:
    for token in ("a\1b", "a\nb", "ä"):
        with pytest.raises(InvalidInput, match="token"):
            Credentials("user", token=Secret(token))
    with pytest.raises(InvalidInput, match="control"):
        Credentials("a\1b", token=Secret("t"))


# -- SCRAM, against the server's side of it


def scram_with(
    name: str, channel: Channel, peer: Peer, password: str = "pa ss"
) -> tuple[str | None, str]:
    """Run both sides. Returns the user of a success, and the client's GS2 flag."""
    server = MECHANISMS[name]({"user": "pa ss"}, peer)
    client = scram.exchange(name, "user", Secret(password), channel)
    next(server)
    response = next(client)
    assert response is not None
    flag = response.decode().partition(",")[0]
    try:
        while True:
            response = client.send(server.send(response or b""))
    except StopIteration as end:
        return end.value, flag


@pytest.mark.parametrize("name", ["SCRAM-SHA-1", "SCRAM-SHA-256"])
def test_scram(name: str) -> None:
    assert scram_with(name, Channel(), Peer()) == ("user", "n")
    assert scram_with(name, Channel(), Peer(), "wrong")[0] is None


def test_scram_binds_to_tls_unique_where_there_is_one() -> None:
    peer = Peer({"tls-unique": b"unique"}, offers_plus=True)
    name = "SCRAM-SHA-256-PLUS"
    assert scram_with(name, TLS12, peer) == ("user", "p=tls-unique")
    other = Peer({"tls-unique": b"of the man in the middle"}, offers_plus=True)
    assert scram_with(name, TLS12, other)[0] is None


def test_a_client_that_could_bind_says_so_where_plus_is_not_offered() -> None:
    """Downgrade: -PLUS taken out of the EHLO reply is found out by the server."""
    assert scram_with("SCRAM-SHA-256", TLS12, Peer()) == ("user", "y")
    stripped = Peer({"tls-unique": b"unique"}, offers_plus=True)
    assert scram_with("SCRAM-SHA-256", TLS12, stripped)[0] is None


def test_a_client_that_declines_an_offered_plus_does_not_claim_that_there_was_none() -> None:
    channel = Channel(verified=True, tls_unique=b"unique", plus_offered=True)
    assert scram_with("SCRAM-SHA-256", channel, Peer(offers_plus=True)) == ("user", "n")


def talk(session: Session, dialogue: Dialogue[T], server: Callable[[bytes], str]) -> T:
    """Run a dialogue with a server that is a function of the line it gets."""
    try:
        while True:
            next(dialogue)
            if line := session.data_to_send():
                session.sending(len(line))
                session.sent(len(line))
                session.receive_data(f"{server(line.strip())}\r\n".encode())
    except StopIteration as end:
        return cast(T, end.value)


def impostor(signature: bytes | None) -> Callable[[bytes], str]:
    """A server that knows no password: it ends with this signature, or says 235 without one."""

    def answer(line: bytes) -> str:
        if line.startswith(b"AUTH"):
            nonce = base64.b64decode(line.split()[2]).decode().rpartition("r=")[2]
            return f"334 {b64(f'r={nonce}x,s={b64(bytes(16))},i=4096')}"
        if line == b"*":
            return "501 cancelled"
        return "235 2.7.0 welcome" if signature is None else f"334 {b64(signature)}"

    return answer


@pytest.mark.parametrize("signature", [None, b"v=AAAA", b"", b"nonsense", b"v=" + b"A" * 43 + b"="])
def test_scram_needs_the_servers_signature(signature: bytes | None) -> None:
    """A 235 without it, or with a wrong one, comes from somebody who does not know the password."""
    session = Session()
    session.extensions.update(auth="SCRAM-SHA-256")
    login = auth.login(session, PASSWORD, confidential=True)
    with pytest.raises(ProtocolViolation, match="did not prove") as caught:
        talk(session, login, impostor(signature))
    assert not session.authenticated
    assert not session.usable
    assert not caught.value.retryable


def test_a_reason_in_the_servers_final_message_is_told() -> None:
    """`e=` in a challenge is answered, and the 535 behind it is the outcome."""
    said = iter(["535 5.7.8 no"])
    first = impostor(b"e=other-error")

    def server(line: bytes) -> str:
        return first(line) if line else next(said)

    session = Session()
    session.extensions.update(auth="SCRAM-SHA-256")
    with pytest.raises(AuthenticationFailed, match="other-error"):
        talk(session, auth.login(session, PASSWORD, confidential=True), server)


@pytest.mark.parametrize(
    "first",
    [
        "r={}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=9999999",
        "i=99999999",
        "r=other,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096",
        "",
        "r={}x,s=!!,i=4096",
        "r={}x,i=1",
    ],
)
def test_scram_bounds_what_the_server_may_ask(first: str) -> None:
    client = scram.exchange("SCRAM-SHA-256", "user", Secret("p"), Channel())
    nonce = (next(client) or b"").decode().rpartition("r=")[2]
    with pytest.raises(ProtocolViolation):
        client.send(first.replace("{}", nonce).encode())


@given(st.binary(max_size=200), st.sampled_from(list(sasl.MECHANISMS)))
def test_no_challenge_makes_a_mechanism_fail_otherwise_than_by_its_own_errors(
    challenge: bytes, name: str
) -> None:
    credentials = Credentials("user", Secret("pa ss"), Secret("token"))
    mechanism = sasl.MECHANISMS[name]
    exchange = mechanism.start(credentials, TLS12)
    next(exchange)
    mechanism.reason(challenge)
    try:
        for _ in range(3):
            exchange.send(challenge)
    except (ProtocolViolation, StopIteration):
        pass


def test_a_missing_scramp_is_explained_only_when_nothing_else_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scram, "available", lambda: False)
    session, peer = session_with(
        "SCRAM-SHA-256 PLAIN", f"C: AUTH PLAIN {b64(chr(0) + 'user' + chr(0) + 'pa ss')}\nS: 235 in"
    )
    peer.run(session, auth.login(session, PASSWORD, confidential=True))
    session, peer = session_with("SCRAM-SHA-256", "")
    with pytest.raises(MailError, match=r"mailbridge\[scram\]"):
        peer.run(session, auth.login(session, PASSWORD, confidential=True))


def test_scramp_is_not_looked_for_where_nobody_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "available", lambda: pytest.fail("looked for"))
    session, peer = session_with(
        "PLAIN LOGIN", f"C: AUTH PLAIN {b64(chr(0) + 'user' + chr(0) + 'pa ss')}\nS: 235 in"
    )
    peer.run(session, auth.login(session, PASSWORD, confidential=True))


# -- a mechanism of one's own, and AUTH beside other commands


class Shout:
    name = "X-SHOUT"
    reveals_secret = False

    def start(self, credentials: Credentials, channel: Channel) -> sasl.Exchange:
        challenge = yield None
        yield (challenge or b"").upper()


def test_a_mechanism_of_the_users_own() -> None:
    assert isinstance(Shout(), sasl.Mechanism)
    session, peer = session_with(
        "PLAIN X-SHOUT",
        f"C: AUTH X-SHOUT\nS: 334 {b64('hey')}\nC: {b64('HEY')}\nS: 235 in",
    )
    peer.run(session, auth.login(session, PASSWORD, confidential=True, mechanisms=[Shout()]))


def test_auth_may_share_a_write_with_what_follows_where_one_reply_ends_it() -> None:
    session, _ = session_with("PLAIN LOGIN", "")
    pending = auth.Login(session, PASSWORD, confidential=True)
    assert pending.one_round
    pending.begin()
    session.send(Mail("a@example.org"))
    written = session.data_to_send()
    assert written.count(b"\r\n") == 2
    session.sending(len(written))
    session.sent(len(written))
    session.receive_data(b"235 in\r\n250 ok\r\n")
    reply = talk(session, session.reply(), lambda line: "")
    assert talk(session, pending.finish(reply), lambda line: "").code == 235
    assert talk(session, session.reply(), lambda line: "").code == 250


@pytest.mark.parametrize("mechanism", ["LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_other_mechanisms_stand_alone(mechanism: str) -> None:
    session, _ = session_with(mechanism, "")
    assert not auth.Login(session, PASSWORD, confidential=True).one_round


def test_a_token_stands_alone_since_its_refusal_is_a_challenge() -> None:
    session, _ = session_with("XOAUTH2 OAUTHBEARER", "")
    assert not auth.Login(session, TOKEN, confidential=True).one_round


def test_cram_md5_is_left_out_where_openssl_has_no_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIPS build: the other mechanisms are used, and no login ends in a ValueError."""

    def md5(data: bytes = b"", **options: object) -> object:
        raise ValueError("[digital envelope routines] unsupported")

    monkeypatch.setattr(sasl.hashlib, "md5", md5)
    assert "CRAM-MD5" not in names(PASSWORD, Channel(), confidential=False)
    session, _ = session_with("CRAM-MD5", "")
    with pytest.raises(MailError, match="No suitable authentication method"):
        auth.Login(session, PASSWORD, confidential=True)
