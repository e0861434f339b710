"""From a host name to a connection in an event loop: one address, or several in a race."""

from __future__ import annotations

import asyncio

import pytest

import mailbridge
from mailbridge import AsyncSMTP
from mailbridge.aio import connect
from mailbridge.testing import ScriptedServer
from tests.aio.facade import Loop
from tests.sync.test_connecting import Addresses, addresses, silent_port

__all__ = ["addresses", "silent_port"]


async def connected(timeout: float = 5, source: tuple[str, int] | None = None) -> None:
    smtp = AsyncSMTP("mail.invalid", timeout=timeout, source_address=source)
    await smtp.connect("mail.invalid")
    smtp.close()


def test_the_only_address_is_named_when_it_is_silent(
    loop: Loop, addresses: Addresses, silent_port: int
) -> None:
    addresses(("127.0.0.1", silent_port))
    with pytest.raises(mailbridge.ConnectTimeout, match=r"tried 127\.0\.0\.1 \(no answer\)"):
        loop.run(connected(timeout=0.2))


def test_the_only_address_says_why_it_failed(
    loop: Loop, addresses: Addresses, closed_port: int
) -> None:
    addresses(("127.0.0.1", closed_port))
    with pytest.raises(mailbridge.ConnectRefused, match=r"127\.0\.0\.1 \(Connect"):
        loop.run(connected())
    addresses(("::1", closed_port))
    with pytest.raises(mailbridge.ConnectError, match=r"tried ::1 \(.*family"):
        loop.run(connected(source=("127.0.0.1", 0)))


@pytest.mark.parametrize("number", [1, 2])
def test_cancelled_while_nobody_answers(
    loop: Loop, addresses: Addresses, silent_port: int, number: int
) -> None:
    """Nothing is left open: a socket that nobody closes is a warning, and fails the test."""
    addresses(*[("127.0.0.1", silent_port)] * number)

    async def main() -> None:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await connected()
        assert not isinstance(caught.value, mailbridge.MailError)

    loop.run(main())


def test_a_silent_address_is_overtaken(
    loop: Loop, addresses: Addresses, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "ATTEMPT_DELAY", 0.01)
    with ScriptedServer() as smtpd:
        addresses(("127.0.0.1", silent_port), ("127.0.0.1", smtpd.port))
        loop.run(connected())
    assert smtpd.connections == 1


def test_what_became_of_each_address(
    loop: Loop, addresses: Addresses, closed_port: int, silent_port: int
) -> None:
    addresses(("127.0.0.2", closed_port), ("127.0.0.1", silent_port))
    expected = r"127\.0\.0\.2 \(Connect.*, 127\.0\.0\.1 \(no answer\)"
    with pytest.raises(mailbridge.ConnectTimeout, match=expected):
        loop.run(connected(timeout=1.0))
