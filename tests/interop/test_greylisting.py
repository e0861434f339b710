"""Greylisting by a real server: Postfix asks a policy service, which says "later" at first."""

from __future__ import annotations

import socketserver
from collections import Counter
from collections.abc import Iterator

import pytest

import mailbridge
from mailbridge import Envelope, Relay, RetryPolicy, Transport
from tests.interop.postfix import Postfix, start_postfix, without_trace
from tests.serving import serving

SENDER = "me@example.org"
CONTENT = b"From: me@example.org\r\nSubject: x\r\n\r\n.one dot\r\n"


class Policy(socketserver.ThreadingTCPServer):
    """Postfix's policy protocol (SMTPD_POLICY_README): attributes, an empty line, an action."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PolicyRequests)
        self.asked: Counter[str] = Counter()

    def action(self, recipient: str) -> str:
        self.asked[recipient] += 1
        greylisted = recipient.startswith("grey") and self.asked[recipient] == 1
        return "450 4.2.0 Greylisted, try again later" if greylisted else "DUNNO"


class PolicyRequests(socketserver.StreamRequestHandler):
    server: Policy

    def handle(self) -> None:
        attributes: dict[str, str] = {}
        for line in self.rfile:
            name, _, value = line.decode().rstrip("\n").partition("=")
            if name:
                attributes[name] = value
            else:
                action = self.server.action(attributes["recipient"])
                self.wfile.write(f"action={action}\n\n".encode())


@pytest.fixture(scope="module")
def greylisting(postfix_installed: None) -> Iterator[Postfix]:
    with Policy() as policy, serving(policy):
        host, port = policy.server_address[:2]
        service = f"check_policy_service inet:{host}:{port}"
        with start_postfix(settings={"smtpd_recipient_restrictions": service}) as postfix:
            yield postfix


def transport(server: Postfix, retry: RetryPolicy | None = None, **options: object) -> Transport:
    relay = Relay.from_options(
        {"host": server.host, "port": server.port, "tls": "none", "timeout": 20, **options}
    )
    return Transport(relay, retry=retry)


def test_without_a_retry_it_is_deferred(greylisting: Postfix) -> None:
    everybody = ["grey-1@example.com", "white-1@example.com"]
    with pytest.raises(mailbridge.SomeRecipientsRefused) as caught:
        transport(greylisting).send(Envelope(SENDER, everybody), CONTENT)
    report = caught.value.report
    assert (report.deferred, report.accepted) == ((everybody[0],), (everybody[1],))
    assert str(report[everybody[0]].reply.status) == "4.2.0"


@pytest.mark.parametrize("ignored", [[], ["PIPELINING"]], ids=["pipelined", "in turn"])
def test_a_retry_delivers_to_each_once(greylisting: Postfix, ignored: list[str]) -> None:
    mark = "turn" if ignored else "group"
    everybody = [f"{kind}-{mark}@example.com" for kind in ("grey", "white", "grey2")]
    retry = RetryPolicy(tries=3, delay=0.01)
    sender = transport(greylisting, retry, ignore_extensions=ignored)
    report = sender.send(Envelope(SENDER, everybody), CONTENT)
    assert report.accepted == tuple(everybody)
    for recipient in everybody:
        (stored,) = greylisting.stored(recipient)
        assert without_trace(stored) == CONTENT


def test_a_batch_is_tried_again_as_well(greylisting: Postfix) -> None:
    mails = [(Envelope(SENDER, [f"grey-batch-{n}@example.com"]), CONTENT) for n in range(6)]
    sender = transport(greylisting, RetryPolicy(tries=3, delay=0.01))
    assert all(report.accepted for report in sender.send_many(mails))
    for n in range(6):
        assert len(greylisting.stored(f"grey-batch-{n}@example.com")) == 1
