"""Sending from async views: on mailbridge's asyncio core, in the loop of the server.

No thread and no query: what Django's mail needs is settings and templates, none of which is the
ORM's. Receivers of the signals run in the loop, so they must not ask the database either.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives

from mailbridge import AsyncTransport, OptionError

from . import conf, mailers, settings
from .batch import Batch, attach
from .connection import route

if TYPE_CHECKING:
    from .backends.smtp import EmailBackend


async def asend_mail(
    subject: str,
    message: str,
    from_email: str | None,
    recipient_list: Iterable[str],
    *,
    html_message: str | None = None,
    fail_silently: bool = False,
    connection: Any = None,
    using: str | None = None,
) -> int:
    """`django.core.mail.send_mail` to be awaited. Returns how many messages were handed over.

    `connection` is a backend; without one it is that of EMAIL_BACKEND or, on Django 6.1, of the
    alias `using` in MAILERS. Another backend than `mailbridge_django.EmailBackend`, such as that
    of tests, does its work in Django's thread for it. Raises what `send_messages` raises.
    """
    backend = connection or _backend(using, fail_silently)
    email = EmailMultiAlternatives(
        subject, message, from_email, list(recipient_list), connection=backend
    )
    if html_message:
        email.attach_alternative(html_message, "text/html")
    if hasattr(backend, "asend_messages"):
        return int(await backend.asend_messages([email]))
    return int(await sync_to_async(backend.send_messages)([email]) or 0)


def _backend(using: str | None, fail_silently: bool) -> Any:
    if not settings.has_mailers():
        if using is not None:
            raise ValueError("using needs MAILERS, which came with Django 6.1")
        # What get_connection() does, which Django 6.1 deprecates.
        return mailers.of_path(settings.setting_of("EMAIL_BACKEND"), fail_silently=fail_silently)
    if fail_silently:
        raise ValueError("with MAILERS, fail_silently is an option of the mailer")
    return mail.mailers[using or "default"]


async def send_messages(backend: EmailBackend, messages: Iterable[EmailMessage]) -> int:
    """`EmailBackend.asend_messages`."""
    # What the server takes is not known yet; the transport says so of each recipient.
    batch = AsyncBatch(backend, smtputf8=True)
    try:
        transport = AsyncTransport(backend.all_relays(), **route(backend))
        await batch.over(transport, messages)
    except OptionError as exc:
        raise conf.wrong_option(exc, conf.django_options(backend), backend.alias) from exc
    return batch.finish()


class AsyncBatch(Batch):
    """The messages of one `asend_messages` call."""

    async def over(self, transport: AsyncTransport, messages: Iterable[EmailMessage]) -> None:
        """Send over a connection of the pool, which has the next message ready while it waits."""
        rest = iter(messages)
        waiting: deque[Any] = deque()
        try:
            async with aclosing(transport.send_many(self._mails(rest, waiting))) as reports:
                async for report in reports:
                    place, message = waiting.popleft()
                    self._settle(place, message, report)
                    if self._unreachable is not None:
                        break
        except asyncio.CancelledError as cancelled:
            if waiting:
                attach(waiting[0][1], getattr(cancelled, "report", None))
            raise
        # Nobody is left unless the server cannot be reached, and then they are told so.
        for place, message in waiting:
            self._try_alone(place, message)
        self.one_by_one(rest)
