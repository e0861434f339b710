"""DSN, DELIVERBY, MT-PRIORITY, FUTURERELEASE on the wire; and a clear error where they are not."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import mailbridge
from mailbridge import DSN, DeliverBy, Envelope, Esmtp, InvalidInput, NotSupported, Transport
from mailbridge.testing import ScriptedServer
from tests.sync.servers import LOCK_STEP
from tests.sync.support import BOTH, CC, CONTENT, SENDER, TO, transport, verbs

EXTENSIONS = ("DELIVERBY 60", "MT-PRIORITY MIXER", "FUTURERELEASE 86400 2030-01-01T00:00:00Z")
EVERYTHING = Esmtp(
    dsn=DSN(
        notify="failure,delay", ret="hdrs", envid="order 17", orcpt=True, notify_each={CC: "never"}
    ),
    deliver_by=DeliverBy(60, trace=True),
    mt_priority=4,
    hold_for=86400,
)
OF_MAIL = ("RET=HDRS", "ENVID=order+2017", "BY=60;RT", "MT-PRIORITY=4", "HOLDFOR=86400")
OF_RCPT = {
    TO: ("NOTIFY=FAILURE,DELAY", f"ORCPT=rfc822;{TO}"),
    CC: ("NOTIFY=NEVER", f"ORCPT=rfc822;{CC}"),
}


@pytest.fixture
def offering(smtpd: ScriptedServer) -> ScriptedServer:
    smtpd.with_(*EXTENSIONS)
    return smtpd


def test_what_was_asked_reaches_the_server(offering: ScriptedServer) -> None:
    report = transport(offering).send(Envelope(SENDER, [TO, CC], EVERYTHING), CONTENT)
    assert report.accepted == (TO, CC)
    (message,) = offering.messages
    assert message.mail_parameters[1:] == OF_MAIL
    assert message.rcpt_parameters == OF_RCPT


def test_in_lock_step_and_hold_until() -> None:
    asked = Esmtp(hold_until=datetime(2030, 1, 1, tzinfo=UTC))
    with ScriptedServer(extensions=[*LOCK_STEP, *EXTENSIONS]) as smtpd:
        transport(smtpd).send(Envelope(SENDER, [TO], asked), CONTENT)
        assert smtpd.messages[0].mail_parameters[1:] == ("HOLDUNTIL=2030-01-01T00:00:00Z",)


def test_defaults_of_a_transport(offering: ScriptedServer) -> None:
    default = {"dsn": {"notify": "success", "ret": "full"}, "mt_priority": -1}
    sender = Transport(transport(offering).relay, esmtp=default)
    own = Envelope(SENDER, [TO], Esmtp(dsn=DSN(ret="hdrs")))
    sender.send(own, CONTENT)
    list(sender.send_many([(own, CONTENT), (BOTH, CONTENT)]))
    one, two, three = offering.messages
    assert one.mail_parameters[1:] == two.mail_parameters[1:] == ("RET=HDRS", "MT-PRIORITY=-1")
    assert three.mail_parameters[1:] == ("RET=FULL", "MT-PRIORITY=-1")
    assert three.rcpt_parameters == {TO: ("NOTIFY=SUCCESS",), CC: ("NOTIFY=SUCCESS",)}


def test_further_transactions_ask_the_same(offering: ScriptedServer) -> None:
    """Recipients that the server wants in another transaction take their parameters along."""
    offering.max_recipients = 1
    transport(offering).send(Envelope(SENDER, [TO, CC], EVERYTHING), CONTENT)
    first, second = offering.messages
    assert first.mail_parameters == second.mail_parameters
    assert first.rcpt_parameters | second.rcpt_parameters == OF_RCPT


def test_another_try_asks_the_same(offering: ScriptedServer) -> None:
    offering.defer(CC, times=1)
    sender = Transport(
        transport(offering).relay, retry=mailbridge.RetryPolicy(tries=2, delay=0.001)
    )
    assert sender.send(Envelope(SENDER, [TO, CC], EVERYTHING), CONTENT).accepted == (TO, CC)
    _, again = offering.messages
    assert again.mail_parameters[1:] == OF_MAIL
    assert again.rcpt_parameters == {CC: OF_RCPT[CC]}


@pytest.mark.parametrize(
    ("esmtp", "keyword"),
    [
        (Esmtp(dsn=DSN(envid="1")), "DSN"),
        (Esmtp(deliver_by=60), "DELIVERBY"),
        (Esmtp(mt_priority=1), "MT-PRIORITY"),
        (Esmtp(hold_for=1), "FUTURERELEASE"),
    ],
)
def test_not_offered(offering: ScriptedServer, esmtp: Esmtp, keyword: str) -> None:
    """Nothing of the mail is sent, the error names the server, and the connection is kept."""
    offering.without(keyword)
    sender = transport(offering)
    with pytest.raises(NotSupported, match=keyword) as caught:
        sender.send(Envelope(SENDER, [TO], esmtp), CONTENT)
    error = caught.value
    assert error.host == f"{offering.host}:{offering.port}"
    assert error.host in str(error)
    assert "send through a server that offers it" in str(error)
    assert error.report.not_attempted == (TO,)
    assert error.session_usable
    assert verbs(offering) == ["EHLO"]
    assert sender.send(BOTH, CONTENT).accepted
    assert offering.connections == 1


def test_not_offered_in_a_batch(offering: ScriptedServer) -> None:
    """The mails before and behind it go out."""
    offering.without("DSN")
    asking = Envelope(SENDER, [TO], Esmtp(dsn=DSN(ret="full")))
    mails = [(BOTH, CONTENT), (asking, CONTENT), (BOTH, CONTENT)]
    one, two, three = transport(offering).send_many(mails)
    assert one.accepted == three.accepted == (TO, CC)
    assert isinstance(two.error, NotSupported)
    assert two.error.host == two.relay == f"{offering.host}:{offering.port}"
    assert len(offering.messages) == 2


def test_beyond_the_servers_limit(offering: ScriptedServer) -> None:
    with pytest.raises(NotSupported, match="86400 s at most"):
        transport(offering).send(Envelope(SENDER, [TO], {"hold_for": 86401}), CONTENT)
    assert "MAIL" not in verbs(offering)


def test_said_twice(smtpd: ScriptedServer) -> None:
    envelope = Envelope(SENDER, [TO, CC], EVERYTHING)
    for options in ({"mail_options": ["ret=FULL"]}, {"rcpt_options": ["NOTIFY=NEVER"]}):
        with pytest.raises(InvalidInput, match="in the envelope's esmtp, too"):
            transport(smtpd).send(envelope, CONTENT, **options)
    assert smtpd.connections == 0


def test_length_of_a_command_line(smtpd: ScriptedServer) -> None:
    """RFC 5321 section 4.5.3.1.4, and what extensions add to it."""
    longest = f"{'o' * 64}@{'.'.join(['d' * 61] * 3)}.org"
    recipients = [f"{'o' * 64}@{'.'.join(['d' * 61] * 3)}.o{n}" for n in range(2)]
    asked = Esmtp(dsn=DSN(notify="success,failure,delay", ret="full", envid="x" * 100, orcpt=True))
    transport(smtpd).send(Envelope(longest, recipients, asked), CONTENT)
    assert all(len(p) == 2 for p in smtpd.messages[0].rcpt_parameters.values())
    with pytest.raises(InvalidInput, match="octets, and 512 are allowed"):
        transport(smtpd).send(BOTH, CONTENT, mail_options=["X-OWN=" + "x" * 500])
    with pytest.raises(InvalidInput, match="shorten them"):
        transport(smtpd).send(BOTH, CONTENT, rcpt_options=["ORCPT=rfc822;" + "x" * 1000])
