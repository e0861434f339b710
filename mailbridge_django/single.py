"""One message, as `send_mail()` sends it: over a connection of the pool, which is not kept for it.

A login that is over in one round then goes out with the envelope, and what is done for a second
message is not done.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.core.mail import EmailMessage

from mailbridge import OptionError, Transport
from mailbridge.outgoing import warn_of_refused

from . import conf, signals
from .batch import attach, untried
from .connection import is_untouched, route
from .relays import as_configured
from .report import report_of

if TYPE_CHECKING:
    from .backends.smtp import EmailBackend

_NAMES = ("open", "close", "_send", "_connect", "_relays", "connection_class", "mailer")
#: What a class must have of EmailBackend itself.
methods = attrgetter(*_NAMES)


def goes_alone(backend: EmailBackend, messages: Iterable[EmailMessage], ours: Any) -> bool:
    """True if there is one message, and nobody has a hand in how it is sent.

    `ours` are the `methods` of EmailBackend.
    """
    return (
        isinstance(messages, list)
        and len(messages) == 1
        and backend.connection is None
        and backend._partial_connection is None
        # Of several relays, and of several tries, a connection is the first that there is.
        and not backend.relays
        and backend.retry.tries == 1
        and methods(type(backend)) == ours
        and vars(backend).keys().isdisjoint(_NAMES)
        and is_untouched()
        # Whether the server takes other addresses is known when there is a connection.
        and not signals.pre_send.receivers
        and _has_ascii_addresses(messages[0])
        # Nobody else could use a connection that was made with a context of this backend's own.
        and backend._own_context() is None
    )


def _has_ascii_addresses(message: EmailMessage) -> bool:
    try:
        addresses = "".join(map(str, (message.from_email, *message.recipients())))
    except Exception:
        return False  # It is told what is wrong with it where it is sent.
    return addresses.isascii()


def send_alone(backend: EmailBackend, message: EmailMessage) -> int:
    """Send the message; return 1, or 0 if it was kept back. Raises as `send_messages` does."""
    transport = _transport(backend)
    attach(message, None)
    try:
        return int(_send(backend, transport, message))
    except Exception as error:
        if report_of(message) is None:
            untried(backend, message, error)
        raise


def _transport(backend: EmailBackend) -> Transport:
    """The transport of the last backend that was configured like this one, if there was one."""
    config, key = backend._config, (conf.helo_name(), backend.mailer)
    kept = as_configured(backend, config)
    transport = config.transports.get(key) if kept else None
    if transport is None:
        transport = Transport(backend._relays(None), **route(backend))
        if kept:
            config.transports[key] = transport
    return transport


def _send(backend: EmailBackend, transport: Transport, message: EmailMessage) -> bool:
    mail = backend.prepare(message, smtputf8=False)
    if mail is None:
        return False
    try:
        report = transport.attempt(*mail, on_refused=backend.on_refused)
    except OptionError as exc:
        raise conf.wrong_option(exc, conf.django_options(backend), backend.alias) from exc
    warn_of_refused(report, backend.on_refused)
    return backend.settle(message, report)
