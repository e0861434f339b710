"""A value for every option, what must stand beside it, and where it is to be found in the end."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mailbridge import (
    TLS,
    Esmtp,
    Handover,
    OnRefused,
    PoolOptions,
    Relay,
    RetryPolicy,
    Secret,
    Timeouts,
)
from tests.dkim_keys import ED25519, signer

HERE = str(Path(__file__))
CONTEXT = ssl.create_default_context()
PIN = "ab" * 32


def rest_of(name: str) -> dict[str, str]:
    return {each: value for each, value in DKIM.items() if each != name}


def token() -> str:
    return "a token"


def hook(handover: Handover) -> None:
    """Is never called."""


class Sample(NamedTuple):
    """`path` leads from what sends (relay, relays, retry, ...) to the value that is `expected`."""

    value: Any
    path: str
    expected: Any
    beside: Mapping[str, Any] = MappingProxyType({})

    def arrived(self, relay: Relay, sender: Any) -> bool:
        """True if the value is where it belongs: in the relay, or what sends through it."""
        value = sender if self.path.split(".")[0] in OF_SENDER else relay
        for name in self.path.split("."):
            value = getattr(value, name, None)
        return bool(value == self.expected)


OF_SENDER = {
    *("retry", "relays", "round_robin", "on_refused", "deadline", "esmtp", "on_report"),
    *("max_recipients", "before_final_dot", "after_reply"),
}
TLS_ON = {"tls": "starttls"}
DKIM = {"dkim_domain": "example.org", "dkim_selector": "mail1", "dkim_key": ED25519}
LOGIN = {"username": "ida", "allow_insecure_auth": True}

SAMPLES = {
    "url": Sample("smtps://ida:p@mx.example.org:2465", "address", "mx.example.org:2465"),
    "host": Sample("mx.example.org", "host", "mx.example.org"),
    "port": Sample("2525", "port", 2525),
    "username": Sample("eve", "username", "eve", {"password": "p"}),
    "password": Sample("s3cret", "password", Secret("s3cret"), {"username": "ida"}),
    "tls": Sample("implicit", "tls", TLS.IMPLICIT),
    "tls_verify": Sample("no", "tls_verify", False, TLS_ON),
    "fingerprint": Sample(PIN.upper(), "fingerprint", (PIN,), TLS_ON),
    "ca_file": Sample(HERE, "ca_file", HERE, TLS_ON),
    "ca_path": Sample(str(Path(HERE).parent), "ca_path", str(Path(HERE).parent), TLS_ON),
    "certfile": Sample(HERE, "certfile", HERE, TLS_ON),
    "keyfile": Sample(HERE, "keyfile", HERE, {**TLS_ON, "certfile": HERE}),
    "server_hostname": Sample("x.example", "server_hostname", "x.example", TLS_ON),
    "ssl_context": Sample(CONTEXT, "ssl_context", CONTEXT, TLS_ON),
    "allow_insecure_auth": Sample("yes", "allow_insecure_auth", True),
    "auth_mechanisms": Sample("plain", "auth_mechanisms", ("PLAIN",)),
    "token_provider": Sample(f"{__name__}:token", "token_provider", token, LOGIN),
    "auth_pause": Sample("7", "auth_pause", 7.0),
    "timeout": Sample(7, "timeouts", Timeouts.all(7)),
    "connect_timeout": Sample("7", "timeouts.connect", 7.0),
    "reply_timeout": Sample("7", "timeouts.reply", 7.0),
    "final_reply_timeout": Sample("7", "timeouts.final_reply", 7.0),
    "timeouts": Sample(Timeouts(1, 2, 3), "timeouts", Timeouts(1, 2, 3)),
    "local_hostname": Sample("app.example.org", "local_hostname", "app.example.org"),
    "source_address": Sample("127.0.0.2", "source_address", ("127.0.0.2", 0)),
    "ignore_extensions": Sample("size, dsn", "ignore_extensions", {"SIZE", "DSN"}),
    "lmtp": Sample("yes", "lmtp", True),
    "strict": Sample("yes", "strict", True),
    "dkim_domain": Sample("b.example", "dkim.domain", "b.example", rest_of("dkim_domain")),
    "dkim_selector": Sample("x", "dkim.selector", "x", rest_of("dkim_selector")),
    "dkim_key": Sample(ED25519, "dkim.key", Secret(ED25519), rest_of("dkim_key")),
    "dkim_headers": Sample("From, To", "dkim.headers", ("from", "to"), DKIM),
    "dkim_canonicalization": Sample(
        "simple/simple", "dkim.canonicalization", "simple/simple", DKIM
    ),
    "dkim": Sample(signer(), "dkim", signer()),
    "max_connections": Sample("7", "pool.max_connections", 7),
    "pool_timeout": Sample("7", "pool.wait_timeout", 7.0),
    "max_messages": Sample("7", "pool.max_messages", 7),
    "max_age": Sample("7", "pool.max_age", 7.0),
    "idle_timeout": Sample("7", "pool.idle_timeout", 7.0),
    "max_per_second": Sample("7", "pool.max_per_second", 7.0),
    "bdat_window": Sample("7", "bdat_window", 7),
    "pool": Sample(PoolOptions(max_age=7), "pool", PoolOptions(max_age=7)),
    "tries": Sample("7", "retry.tries", 7),
    "retry_delay": Sample("7", "retry", RetryPolicy(delay=7)),
    "retry_max_delay": Sample("7", "retry.max_delay", 7.0),
    "deadline": Sample("7", "deadline", 7.0),
    "max_recipients": Sample("7", "max_recipients", 7),
    "relays": Sample("smtp://b.example.org", "relays", (Relay(host="b.example.org"),)),
    "round_robin": Sample("yes", "round_robin", True),
    "on_refused": Sample("report", "on_refused", OnRefused.REPORT),
    "on_report": Sample(f"{__name__}:token", "on_report", (token,)),
    "before_final_dot": Sample(f"{__name__}:hook", "before_final_dot", hook),
    "after_reply": Sample(hook, "after_reply", hook),
    "esmtp": Sample({"mt_priority": "7"}, "esmtp", Esmtp(mt_priority=7)),
}
