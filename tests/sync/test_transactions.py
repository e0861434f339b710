"""Transactions in which smtplib goes wrong: refusals and the state that they leave behind."""

from __future__ import annotations

import pytest

import mailbridge
from mailbridge import Envelope, link
from mailbridge.testing import ScriptedServer
from tests.sync.servers import Peer, RawServer
from tests.sync.support import (
    BOTH,
    CC,
    CONTENT,
    ENVELOPE,
    SENDER,
    TO,
    client,
    heard,
    transport,
    verbs,
)

# -- DATA


def test_data_refused_sends_rset(smtpd: ScriptedServer) -> None:
    """DATA refused (e.g. 554): RSET, and the next MAIL is not a nested one."""
    smtpd.reply("DATA", "554 5.7.1 no", times=1)
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPDataError) as caught:
            smtp.sendmail(SENDER, TO, CONTENT)
        assert (caught.value.smtp_code, caught.value.session_usable) == (554, True)
        assert verbs(smtpd)[-2:] == ["DATA", "RSET"]
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}
    assert smtpd.connections == 1


def test_data_refused_sends_rset_transport(smtpd: ScriptedServer) -> None:
    """DATA refused (e.g. 554): RSET, and the connection is kept."""
    smtpd.reply("DATA", "554 5.7.1 no", times=1)
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.MessageRefused) as caught:
            relay.send(ENVELOPE, CONTENT)
        assert caught.value.report.refused == (TO,)
        assert relay.send(ENVELOPE, CONTENT).accepted == (TO,)
    assert "RSET" in verbs(smtpd)
    assert smtpd.connections == 1


def test_421_to_data_closes_the_socket(smtpd: ScriptedServer) -> None:
    """421 to DATA: an error, and the socket is closed."""
    smtpd.reply("DATA", "421 4.3.2 going down")
    smtp = client(smtpd)
    with pytest.raises(mailbridge.SMTPDataError) as caught:
        smtp.sendmail(SENDER, TO, CONTENT)
    assert smtp.sock is None
    assert (caught.value.retryable, caught.value.session_usable) == (True, False)
    with pytest.raises(mailbridge.SMTPServerDisconnected):
        smtp.noop()


def test_421_to_data_closes_the_socket_transport(smtpd: ScriptedServer) -> None:
    """421 to DATA: nobody was attempted, and the next mail gets a new connection."""
    smtpd.reply("DATA", "421 4.3.2 going down", times=1)
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.MessageRefused) as caught:
            relay.send(ENVELOPE, CONTENT)
        assert caught.value.report.not_attempted == (TO,)
        assert relay.send(ENVELOPE, CONTENT).accepted == (TO,)
    assert smtpd.connections == 2


# -- RCPT


def test_421_to_rcpt_mid_list_names_everybody(smtpd: ScriptedServer) -> None:
    """421 to RCPT mid-list: every recipient is named, also those accepted and not tried."""
    smtpd.reply("RCPT", "421 4.3.2 going down", recipient=CC)
    everybody = [TO, CC, "d@example.com"]
    smtp = client(smtpd)
    with pytest.raises(mailbridge.SMTPRecipientsRefused) as caught:
        smtp.sendmail(SENDER, everybody, CONTENT)
    assert list(caught.value.recipients) == everybody
    assert {code for code, _ in caught.value.recipients.values()} == {421}
    assert (smtp.sock, caught.value.retryable, caught.value.session_usable) == (None, True, False)


def test_421_to_rcpt_mid_list_names_everybody_transport(smtpd: ScriptedServer) -> None:
    """421 to RCPT mid-list: the text of the 421 and the state of every recipient are told."""
    smtpd.reply("RCPT", "421 4.3.2 going down", recipient=CC)
    everybody = (TO, CC, "d@example.com")
    with pytest.raises(mailbridge.MailError, match="going down") as caught:
        transport(smtpd).send(Envelope(SENDER, everybody), CONTENT)
    assert caught.value.report.not_attempted == everybody
    assert caught.value.retryable
    assert smtpd.messages == ()


@pytest.mark.parametrize("reply", ["250 2.1.5 ok", "251 2.1.5 will forward", "252 maybe", "259 x"])
def test_rcpt_and_mail_2yz_are_acceptances(smtpd: ScriptedServer, reply: str) -> None:
    """RCPT 252 / MAIL 251: accepted by the first digit."""
    smtpd.reply("MAIL", reply)
    smtpd.reply("RCPT", reply)
    with client(smtpd) as smtp:
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}
    assert transport(smtpd).send(ENVELOPE, CONTENT).accepted == (TO,)
    assert len(smtpd.messages) == 2


@pytest.mark.parametrize("reply", ["251 2.0.0 forwarded", "252 2.0.0 Ok", "200", "259 odd"])
def test_final_2yz_is_accepted(smtpd: ScriptedServer, reply: str) -> None:
    """Accepted with 251/252/other 2xx as final reply: no error, so nobody sends twice."""
    smtpd.reply("CONTENT", reply)
    with client(smtpd) as smtp:
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}
    report = transport(smtpd).send(ENVELOPE, CONTENT)
    assert (report.accepted, report.reply.code) == ((TO,), int(reply[:3]))


def test_partial_refusal_is_visible(smtpd: ScriptedServer) -> None:
    """Partial refusal: the others get the mail; who did not is returned."""
    smtpd.refuse(TO, 550, "5.1.1 gone")
    with client(smtpd) as smtp:
        assert smtp.sendmail(SENDER, [TO, CC], CONTENT) == {TO: (550, b"5.1.1 gone")}
    assert smtpd.envelopes == ((SENDER, (CC,)),)


def test_partial_refusal_is_visible_transport(smtpd: ScriptedServer) -> None:
    """Partial refusal: raised by default, and says who was accepted."""
    smtpd.refuse(TO)
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        transport(smtpd).send(BOTH, CONTENT)
    assert caught.value.accepted == (CC,)
    assert list(caught.value.recipients) == [TO]
    assert smtpd.envelopes == ((SENDER, (CC,)),)


def test_duplicate_recipients_all_refused_send_no_data(smtpd: ScriptedServer) -> None:
    """Duplicate recipients all refused: no DATA."""
    smtpd.refuse(TO)
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPRecipientsRefused):
            smtp.sendmail(SENDER, [TO, TO], CONTENT)
    with pytest.raises(mailbridge.RecipientsRefused):
        transport(smtpd).send(Envelope(SENDER, [TO, TO]), CONTENT)
    assert "DATA" not in verbs(smtpd)
    assert verbs(smtpd).count("RCPT") == 2


def test_empty_recipient_list_sends_nothing(smtpd: ScriptedServer) -> None:
    """Empty recipient list: refused before MAIL."""
    with client(smtpd) as smtp:
        with pytest.raises(ValueError, match="no recipients"):
            smtp.sendmail(SENDER, [], CONTENT)
    assert verbs(smtpd) == []
    with pytest.raises(ValueError, match="no recipients"):
        Envelope(SENDER, [])


def test_all_recipients_refused_sends_rset(smtpd: ScriptedServer) -> None:
    """All rcpts refused: RSET, no DATA, and the connection goes on."""
    smtpd.refuse("*", times=2)
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPRecipientsRefused) as caught:
            smtp.sendmail(SENDER, [TO, CC], CONTENT)
        assert set(caught.value.recipients) == {TO, CC}
        assert verbs(smtpd)[-3:] == ["RCPT", "RCPT", "RSET"]
        assert smtp.sendmail(SENDER, [TO, CC], CONTENT) == {}


def test_all_recipients_refused_sends_rset_transport(smtpd: ScriptedServer) -> None:
    """All rcpts refused: RSET, no DATA, and the connection is kept."""
    smtpd.refuse("*", times=2)
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.RecipientsRefused) as caught:
            relay.send(BOTH, CONTENT)
        assert caught.value.report.refused == (TO, CC)
        assert not isinstance(caught.value, mailbridge.SomeRecipientsRefused)
        assert verbs(smtpd)[-3:] == ["RCPT", "RCPT", "RSET"]
        assert relay.send(BOTH, CONTENT).accepted == (TO, CC)
    assert smtpd.connections == 1


def test_mail_refused_offers_nobody(smtpd: ScriptedServer) -> None:
    """MAIL refused: every recipient has the sender's reply, and RCPT is never said."""
    smtpd.reply("MAIL", "550 5.7.1 banned", times=2)
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPSenderRefused) as caught:
            smtp.sendmail(SENDER, TO, CONTENT)
        assert (caught.value.sender, caught.value.smtp_code) == (SENDER, 550)
    with transport(smtpd) as relay:
        with pytest.raises(mailbridge.SenderRefused) as caught:
            relay.send(BOTH, CONTENT)
        assert caught.value.report.refused == (TO, CC)
        assert relay.send(BOTH, CONTENT).accepted == (TO, CC)


# -- the state of the connection


def test_close_and_connect_say_ehlo_again(smtpd: ScriptedServer) -> None:
    """close()+connect(): a new EHLO, no stale features."""
    with ScriptedServer(extensions=()) as plain:
        with client(smtpd) as smtp:
            smtp.sendmail(SENDER, TO, CONTENT)
            smtp.close()
            assert not smtp.has_extn("size")
            smtp.connect(plain.host, plain.port)
            assert smtp.ehlo_resp is None
            smtp.sendmail(SENDER, TO, CONTENT)
        assert heard(plain)[:2] == ["EHLO me", f"MAIL FROM:<{SENDER}>"]


def test_421_then_connect_says_ehlo_again(smtpd: ScriptedServer) -> None:
    """421 then connect(): a new EHLO."""
    smtpd.reply("MAIL", "421 bye", times=1)
    with client(smtpd) as smtp:
        with pytest.raises(mailbridge.SMTPSenderRefused):
            smtp.sendmail(SENDER, TO, CONTENT)
        smtp.connect(smtpd.host, smtpd.port)
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}
    assert verbs(smtpd)[:4] == ["EHLO", "MAIL", "EHLO", "MAIL"]


def test_smtputf8_does_not_leak(smtpd: ScriptedServer) -> None:
    """SMTPUTF8 leaks: the next, ordinary transaction is ASCII, or refused before MAIL."""
    with client(smtpd) as smtp:
        smtp.sendmail("jörg@example.org", TO, CONTENT, ["SMTPUTF8"])
        with pytest.raises(ValueError, match="SMTPUTF8"):
            smtp.sendmail("jörg@example.org", TO, CONTENT)
        smtp.sendmail(SENDER, TO, CONTENT)
    mails = [line for line in heard(smtpd) if line.startswith("MAIL")]
    assert ["SMTPUTF8" in line for line in mails] == [True, False]
    with transport(smtpd) as relay:
        relay.send(Envelope("jörg@example.org", [TO]), CONTENT)
        relay.send(ENVELOPE, CONTENT)
    mails = [line for line in heard(smtpd) if line.startswith("MAIL")]
    assert ["SMTPUTF8" in line for line in mails[2:]] == [True, False]


@pytest.mark.parametrize("code", [554, 421, 521, 450])
def test_greeting_refused_is_raised(smtpd: ScriptedServer, code: int) -> None:
    """Greeting 554 / 421: raised, by connect() too, and no EHLO."""
    smtpd.reply("GREETING", f"{code} not you")
    smtp = mailbridge.SMTP(timeout=5)
    with pytest.raises(mailbridge.SMTPConnectError) as caught:
        smtp.connect(smtpd.host, smtpd.port)
    assert (caught.value.smtp_code, smtp.sock) == (code, None)
    assert caught.value.retryable == (code < 500)
    with pytest.raises(mailbridge.GreetingRefused, match="not you") as caught:
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert caught.value.report.not_attempted == (TO,)
    assert heard(smtpd) == []


def test_421_at_ehlo_says_no_helo(smtpd: ScriptedServer) -> None:
    """No HELO if 421 at EHLO; the state is reset."""
    smtpd.reply("EHLO", "421 4.3.2 too busy")
    smtp = client(smtpd)
    with pytest.raises(mailbridge.SMTPHeloError) as caught:
        smtp.sendmail(SENDER, TO, CONTENT)
    assert (caught.value.smtp_code, smtp.sock, smtp.does_esmtp) == (421, None, False)
    assert caught.value.reply.text == "4.3.2 too busy"
    assert f"(127.0.0.1:{smtpd.port}, ehlo). Try again later" in str(caught.value)
    assert caught.value.transcript[-1] == "S: 421 4.3.2 too busy"
    with pytest.raises(mailbridge.HeloRefused):
        transport(smtpd).send(ENVELOPE, CONTENT)
    assert verbs(smtpd) == ["EHLO", "EHLO"]


def test_ehlo_unknown_falls_back_to_helo(smtpd: ScriptedServer) -> None:
    """RFC 5321 section 3.2: HELO for a server that does not know EHLO; no parameters then."""
    smtpd.reply("EHLO", "502 5.5.1 what?")
    with client(smtpd) as smtp:
        smtp.sendmail(SENDER, TO, CONTENT, ["SIZE=1", "BODY=7BIT"])
    transport(smtpd).send(ENVELOPE, CONTENT)
    assert [line for line in heard(smtpd) if line.startswith("MAIL")] == 2 * [
        f"MAIL FROM:<{SENDER}>"
    ]


def test_unsolicited_421_while_idle() -> None:
    """Unsolicited 421 while idle: is not taken for the reply to the next command."""

    def dialogue(peer: Peer) -> None:
        peer.until("NOOP")
        peer.say("250 Ok", "421 4.4.2 idle for too long")
        peer.wait_for_close()

    with RawServer(dialogue) as server:
        smtp = client(server)
        assert smtp.noop() == (250, b"Ok")
        with pytest.raises(mailbridge.SMTPServerDisconnected, match="idle for too long"):
            smtp.mail(SENDER)
        assert smtp.sock is None
        server.wait_until_closed()
        assert server.peers[0].commands == ["NOOP"]


# -- leaving


def test_exit_does_not_hide_the_original_error(smtpd: ScriptedServer) -> None:
    """`with SMTP()` exit: QUIT that fails does not mask the original error."""
    smtpd.reply("QUIT", "500 what?")
    with pytest.raises(ZeroDivisionError):
        with client(smtpd) as smtp:
            1 / 0
    assert smtp.sock is None
    with client(smtpd) as smtp:
        smtp.sendmail(SENDER, TO, CONTENT)
    assert transport(smtpd).send(ENVELOPE, CONTENT).accepted == (TO,)


@pytest.mark.parametrize("rule", ["drop", "silent", "garbage"])
def test_quit_that_fails_does_not_undo_the_mail(
    smtpd: ScriptedServer, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QUIT fails, hangs or is garbage: the mail stays delivered and nothing is raised."""
    if rule == "garbage":
        smtpd.reply("QUIT", b"\xff\xfe!\r\n")
    else:
        getattr(smtpd, rule)("QUIT")
    monkeypatch.setattr(link, "PATIENCE_AT_QUIT", 0.2)
    with client(smtpd) as smtp:
        assert smtp.sendmail(SENDER, TO, CONTENT) == {}
    assert smtp.sock is None
    assert transport(smtpd).send(ENVELOPE, CONTENT).accepted == (TO,)
