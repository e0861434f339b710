"""`await mail.asend(message)`: in Flask's async views, and in Quart's."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import quart
from flask import Flask

import mailbridge
from mailbridge.testing import ScriptedServer
from mailbridge_flask import Mail, Message, RecipientsRefused, SomeRecipientsRefused

TO = "you@example.com"


def settings(smtpd: ScriptedServer, **more: Any) -> dict[str, Any]:
    return {"MAIL_URL": smtpd.url, "MAIL_DEFAULT_SENDER": "me@example.org", **more}


@pytest.fixture
def mail() -> Mail:
    return Mail()


@pytest.fixture
def site(smtpd: ScriptedServer, mail: Mail) -> quart.Quart:
    app = quart.Quart("site")
    app.config.update(settings(smtpd))
    mail.init_app(app)  # type: ignore[arg-type]

    @app.route("/send/<to>")
    async def send(to: str) -> dict[str, Any]:
        report = await mail.asend(Message("Hello", [to], "text"))
        return {"accepted": report.accepted, "threads": threading.active_count()}

    return app


def test_a_view_of_quart(site: quart.Quart, smtpd: ScriptedServer) -> None:
    """Many requests share the connections of the loop, and there is no thread behind it."""

    async def main() -> list[Any]:
        client = site.test_client()
        responses = await asyncio.gather(*(client.get(f"/send/{n}@example.com") for n in range(50)))
        return [await response.get_json() for response in responses]

    answers = asyncio.run(main())
    assert sorted(answer["accepted"][0] for answer in answers) == sorted(
        f"{n}@example.com" for n in range(50)
    )
    assert len(smtpd.messages) == 50
    assert smtpd.connections <= 10  # the default of max_connections
    assert smtpd.messages[0].mail_from == "me@example.org"


def test_errors_in_quart(site: quart.Quart, mail: Mail, smtpd: ScriptedServer) -> None:
    smtpd.refuse("gone@example.com")

    async def main() -> None:
        async with site.app_context():
            message = Message("Hello", ["gone@example.com"], "text")
            with pytest.raises(RecipientsRefused) as caught:
                await mail.asend(message)
            assert caught.value.message is message
            assert message.delivery_report.refused == ("gone@example.com",)
            some = Message("Hello", ["gone@example.com", TO], "text")
            with pytest.raises(SomeRecipientsRefused):
                await mail.asend(some)
            with pytest.raises(mailbridge.AddressError):
                await mail.asend(Message("Hello", ["no address"], "text"))

    asyncio.run(main())
    assert [m.recipients for m in smtpd.messages] == [(TO,)]


def test_a_cancelled_send_in_quart(site: quart.Quart, mail: Mail, smtpd: ScriptedServer) -> None:
    smtpd.silent("CONTENT", times=1)

    async def main() -> None:
        async with site.app_context():
            message = Message("Hello", [TO], "text")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await mail.asend(message)
            assert message.delivery_report.in_doubt == (TO,)

    asyncio.run(main())


def test_suppressed_in_quart(site: quart.Quart, mail: Mail, smtpd: ScriptedServer) -> None:
    site.config["TESTING"] = True

    async def main() -> None:
        async with site.app_context():
            with mail.record_messages() as outbox:
                report = await mail.asend(Message("Hello", [TO], "text"))
            assert report.not_attempted == (TO,)
            assert [message.subject for message in outbox] == ["Hello"]

    asyncio.run(main())
    assert smtpd.connections == 0


def test_an_async_view_of_flask(smtpd: ScriptedServer, mail: Mail) -> None:
    """Over the connections of the process: the loop of such a view ends with it."""
    app = Flask("site")
    app.config.update(settings(smtpd))
    mail.init_app(app)

    @app.get("/send/<to>")
    def send(to: str) -> dict[str, Any]:
        async def view() -> dict[str, Any]:
            return (await mail.asend(Message("Hello", [to], "text"))).to_dict()

        return app.ensure_sync(view)()  # type: ignore[no-any-return]

    client = app.test_client()
    for number in range(3):
        assert client.get(f"/send/{number}@example.com").status_code == 200
    assert len(smtpd.messages) == 3
    assert smtpd.connections == 1


def test_outside_of_an_application(mail: Mail) -> None:
    with pytest.raises(RuntimeError, match="application context"):
        asyncio.run(mail.asend(Message("Hello", [TO], "text", sender="me@example.org")))
