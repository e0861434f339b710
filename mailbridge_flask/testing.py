"""What the pytest plugin of mailbridge does to Flask: have it send, although this is a test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any
from unittest import mock

from mailbridge import Relay
from mailbridge.testing.site import OF_THE_SERVER

from .config import Config
from .state import MailState


@contextlib.contextmanager
def sending(options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Send while this lasts, TESTING or not, by each application's settings.

    With `options`, those of `Relay.from_options`, every application sends to that server,
    whenever it was made.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(MailState, "_suppressed_because", _never))
        if options is not None:
            config = _with_relay(Relay.from_options(options))
            stack.enter_context(mock.patch.object(MailState, "config", config, create=True))
        yield


def _with_relay(relay: Relay) -> property:
    """What `config` of every state is instead: everything configured but the server."""

    def get(state: MailState) -> Config:
        own: Config = vars(state)["config"]
        return own._replace(relay=_like(own.relay, relay), relays=(), round_robin=False)

    def put(state: MailState, value: Config) -> None:
        own: Config = vars(state).get("config", value)
        servers = {name: getattr(own, name) for name in ("relay", "relays", "round_robin")}
        vars(state)["config"] = value._replace(**servers)

    return property(get, put)


def _never(state: MailState) -> None:
    """Why sending is suppressed: it is not."""


def _like(configured: Relay, relay: Relay) -> Relay:
    """`relay`, with everything configured that does not say which server it is."""
    names = {item.name for item in fields(Relay)} - OF_THE_SERVER
    return relay.using(**{name: getattr(configured, name) for name in names})
