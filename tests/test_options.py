"""Relay, Timeouts and Secret: parsed once; every bad input names its option and says what to do."""

from __future__ import annotations

import copy
import math
import os
import pickle
import ssl
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from mailbridge import (
    TLS,
    InvalidInput,
    OptionError,
    PoolOptions,
    PortError,
    Relay,
    Secret,
    Timeouts,
)
from mailbridge.options import OPTION_NAMES, RetryPolicy
from mailbridge.protocol.sasl import MECHANISMS
from mailbridge.security import MECHANISM_NAMES

PASSWORD = "s3cret"


def test_a_url_says_everything() -> None:
    relay = Relay.from_url(
        "smtp://me%40example.org:p%2Fw%3F@mail.example.org:2525"
        "?tls=STARTTLS&timeout=30&local_hostname=app.example.org&ignore_extensions=size,dsn"
    )
    assert (relay.host, relay.port, relay.tls) == ("mail.example.org", 2525, TLS.STARTTLS)
    assert (relay.username, relay.password) == ("me@example.org", Secret("p/w?"))
    assert relay.timeouts == Timeouts.all(30)
    assert relay.local_hostname == "app.example.org"
    assert relay.ignore_extensions == {"SIZE", "DSN"}


@pytest.mark.parametrize(
    ("url", "port", "tls", "lmtp"),
    [
        ("smtp://h", 25, TLS.OPPORTUNISTIC, False),
        ("smtp://u:p@h", 587, TLS.OPPORTUNISTIC, False),
        ("smtp://h?tls=starttls", 587, TLS.STARTTLS, False),
        ("smtp://h?tls=implicit", 465, TLS.IMPLICIT, False),
        ("smtps://h", 465, TLS.IMPLICIT, False),
        ("smtps://h/?tls=IMPLICIT", 465, TLS.IMPLICIT, False),
        ("smtps://h:0", 465, TLS.IMPLICIT, False),
        ("lmtp://h", 24, TLS.OPPORTUNISTIC, True),
        ("SMTP://h", 25, TLS.OPPORTUNISTIC, False),
    ],
)
def test_schemes_and_default_ports(url: str, port: int, tls: TLS, lmtp: bool) -> None:
    relay = Relay.from_url(url)
    assert (relay.port, relay.tls, relay.lmtp) == (port, tls, lmtp)


@pytest.mark.parametrize(
    ("host", "parsed", "address"),
    [
        ("[::1]", "::1", "[::1]:25"),
        ("faß.de", "xn--fa-hia.de", "xn--fa-hia.de:25"),
        (" h.example ", "h.example", "h.example:25"),
    ],
)
def test_hosts(host: str, parsed: str, address: str) -> None:
    relay = Relay(host=host)
    assert (relay.host, relay.address) == (parsed, address)


def test_options_override_the_url() -> None:
    relay = Relay.from_options({"url": "smtp://u:p@a:26?tls=none", "host": "b"}, port=None)
    assert (relay.host, relay.port, relay.tls) == ("b", 26, TLS.NONE)


def test_texts_are_converted() -> None:
    relay = Relay.from_options(
        host="h",
        port="26",
        timeout="5",
        connect_timeout="2.5",
        final_reply_timeout=900,
        tls_verify="no",
        allow_insecure_auth="1",
        source_address="192.0.2.1",
    )
    assert relay.port == 26
    assert relay.timeouts == Timeouts(2.5, 5.0, 900.0)
    assert (relay.tls_verify, relay.allow_insecure_auth, relay.verifies) == (False, True, False)
    assert relay.source_address == ("192.0.2.1", 0)


def test_the_constructor_reads_words_too() -> None:
    relay = Relay(host="h", allow_insecure_auth="no", tls_verify="yes", lmtp="off")  # type: ignore[arg-type]
    assert (relay.allow_insecure_auth, relay.tls_verify, relay.lmtp) == (False, True, False)


BAD = [
    ({}, "host"),
    ({"host": ""}, "host"),
    ({"host": 5}, "host"),
    ({"host": "a b"}, "host"),
    ({"host": "a\r\nb"}, "host"),
    ({"host": "xn--\u0378"}, "host"),
    ({"host": "localhost:2525"}, "host"),
    ({"host": "smtp://x"}, "host"),
    ({"port": "smtp"}, "port"),
    ({"port": -1}, "port"),
    ({"port": 65536}, "port"),
    ({"port": True}, "port"),
    ({"port": 2.5}, "port"),
    ({"port": "2_5"}, "port"),
    ({"tls": "ssl"}, "tls"),
    ({"tls": True}, "tls"),
    ({"timeout": "soon"}, "timeout"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": "nan"}, "timeout"),
    ({"timeout": float("inf")}, "timeout is too large a number of seconds: 2147483"),
    ({"timeout": 10**400}, "timeout is too large"),
    ({"reply_timeout": 2_147_484}, "reply_timeout is too large"),
    ({"auth_pause": "1e18"}, "auth_pause is too large"),
    ({"timeout": [1]}, "timeout"),
    ({"reply_timeout": "x"}, "reply_timeout"),
    ({"pool": 5}, "pool must be"),
    ({"pool": {}, "max_connections": 2}, "pool must be"),
    ({"timeouts": 5}, "timeouts"),
    ({"timeouts": "x", "connect_timeout": 5}, "timeouts"),
    ({"username": "u"}, "password"),
    ({"password": PASSWORD}, "username"),
    ({"username": "", "password": PASSWORD, "url": "smtp://h"}, None),
    ({"username": 5, "password": PASSWORD}, "username"),
    ({"username": "u", "password": 5}, "password"),
    ({"username": "u\0v", "password": PASSWORD}, "username"),
    ({"username": "u", "password": PASSWORD + "\0"}, "password"),
    ({"local_hostname": 5}, "local_hostname"),
    ({"local_hostname": "a b"}, "local_hostname"),
    ({"local_hostname": "a\r\nRSET"}, "local_hostname"),
    ({"local_hostname": "\u0378"}, "local_hostname"),
    ({"source_address": 5}, "source_address"),
    ({"source_address": "mail.example.org"}, "source_address"),
    ({"source_address": ("192.0.2.1",)}, "source_address"),
    ({"source_address": ("192.0.2.1", "x")}, "port"),
    ({"ignore_extensions": 5}, "ignore_extensions"),
    ({"ca_file": "/nonexistent/ca.pem"}, "ca_file"),
    ({"ca_file": 5}, "ca_file"),
    ({"ca_path": "/nonexistent"}, "ca_path"),
    ({"certfile": "/nonexistent"}, "certfile"),
    ({"keyfile": "/nonexistent"}, "certfile"),
    ({"server_hostname": 5}, "server_hostname"),
    ({"server_hostname": "a\nb"}, "server_hostname"),
    ({"server_hostname": "x", "tls": "none"}, "server_hostname"),
    ({"ssl_context": "x"}, "ssl_context"),
    ({"ssl_context": ssl.create_default_context, "ca_file": __file__}, "ssl_context"),
    ({"ssl_context": ssl.create_default_context, "tls_verify": False}, "ssl_context"),
    ({"tls_verify": "maybe"}, "tls_verify"),
    ({"tls_verify": ""}, "tls_verify"),
    ({"allow_insecure_auth": 2}, "allow_insecure_auth"),
    ({"lmtp": "x"}, "lmtp"),
    ({"fingerprint": "AB:CD"}, "fingerprint"),
    ({"fingerprint": "a" * 40}, "SHA-256"),
    ({"fingerprint": "g" * 64}, "fingerprint"),
    ({"fingerprint": " "}, "fingerprint is empty"),
    ({"fingerprint": 5}, "fingerprint"),
    ({"fingerprint": "a" * 64, "tls": "none"}, "fingerprint"),
    ({"fingerprint": "a" * 64, "tls_verify": False}, "tls_verify"),
    ({"auth_mechanisms": "PLIAN"}, "'PLIAN' is not one of"),
    ({"auth_mechanisms": []}, "auth_mechanisms"),
    ({"auth_mechanisms": 5}, "auth_mechanisms"),
    ({"auth_mechanisms": "EXTERNAL"}, "certfile"),
    ({"auth_pause": 0}, "auth_pause"),
    ({"token_provider": 5, "username": "u"}, "token_provider"),
    ({"token_provider": "no.such.module:f", "username": "u"}, "token_provider"),
    ({"token_provider": str}, "username"),
    ({"token_provider": str, "username": "u", "password": PASSWORD}, "token_provider"),
    ({"url": "smtp://u@h?token_provider=os.getcwd"}, "token_provider is no part of a URL"),
    ({"hots": "h"}, "did you mean 'host'"),
    ({"quite_unknown": "h"}, "known: "),
    ({"url": 5}, "url"),
    ({"url": "http://h"}, "scheme"),
    ({"url": "mail.example.org"}, "scheme"),
    ({"url": "smtp://"}, "host"),
    ({"url": "smtp://h:port"}, "port"),
    ({"url": "smtp://h:70000"}, "port"),
    ({"url": "smtp://[::1"}, "host"),
    ({"url": "smtp://h/path"}, "percent-encode"),
    ({"url": "smtp://h#x"}, "percent-encode"),
    ({"url": "smtp://h?tsl=none"}, "did you mean 'tls'"),
    ({"url": "smtp://h?tls=none&tls=implicit"}, "twice"),
    ({"url": "smtps://h?tls=starttls"}, "contradict"),
    ({"url": "smtp://h?url=smtp://i"}, "url"),
    ({"url": "smtp://h?timeout=x"}, "timeout"),
    ({"url": "smtp://h?tls_verify"}, "tls_verify"),
    ({"url": f"smtp://u:{PASSWORD}/x@h"}, "percent-encode"),
    ({"url": f"smtp://u:12?{PASSWORD}@h"}, "percent-encode"),
    ({"url": f"smtp://u:12#{PASSWORD}@h"}, "percent-encode"),
    ({"url": f"smtp://u:12/{PASSWORD}@h"}, "percent-encode"),
]


@pytest.mark.parametrize(("options", "named"), BAD, ids=lambda v: repr(v)[:50])
def test_bad_input_is_an_option_error_that_names_it(options: dict[str, Any], named: str) -> None:
    if named is None:
        assert Relay.from_options(options).username is None
        return
    if options and not options.keys() & {"host", "url"}:
        options = {"host": "h.example", **options}
    with pytest.raises(OptionError) as caught:
        Relay.from_options(options)
    text = str(caught.value)
    assert named in text
    assert PASSWORD not in text
    assert isinstance(caught.value, ValueError)
    if caught.value.__cause__ is not None:
        assert PASSWORD not in str(caught.value.__cause__)


@pytest.mark.parametrize("options", [5, "host=h", ["host"]])
def test_options_are_a_mapping(options: Any) -> None:
    with pytest.raises(OptionError, match="mapping"):
        Relay.from_options(options)


def test_a_bad_port_is_an_os_error_too_as_in_smtplib() -> None:
    with pytest.raises(PortError) as caught:
        Relay(host="h", port="x")  # type: ignore[arg-type]
    assert isinstance(caught.value, (OSError, InvalidInput))
    assert "nonnumeric port" in str(caught.value)


def test_a_directory_of_authorities(tmp_path: Path) -> None:
    assert Relay(host="h", ca_path=tmp_path).ca_path == str(tmp_path)  # type: ignore[arg-type]


def test_no_secret_shows() -> None:
    relay = Relay.from_url(f"smtp://me%40x:{PASSWORD}@h")
    assert repr(relay) == "Relay(smtp://me%40x:***@h:587?tls=opportunistic)"
    for text in (repr(relay), str(relay), repr(relay.password), f"{relay.password}"):
        assert PASSWORD not in text
    assert relay.password is not None
    assert relay.password.reveal() == PASSWORD
    assert repr(Relay(host="::1", lmtp=True)) == "Relay(lmtp://[::1]:24?tls=opportunistic)"
    assert repr(Relay(host="h", tls=TLS.IMPLICIT)) == "Relay(smtps://h:465)"


def test_a_relay_is_a_value() -> None:
    relay = Relay.from_url(f"smtp://u:{PASSWORD}@h?timeout=5&ignore_extensions=SIZE")
    for twin in (pickle.loads(pickle.dumps(relay)), copy.deepcopy(relay), replace(relay)):
        assert twin == relay
        assert hash(twin) == hash(relay)
    assert relay.using(host="i").host == "i"
    assert relay.using(password="other") != relay
    with pytest.raises(FrozenInstanceError):
        relay.host = "x"  # type: ignore[misc]
    with pytest.raises(OptionError):
        relay.using(port="x")


def test_secrets_compare_by_their_text() -> None:
    assert Secret("a") == Secret(Secret("a")) != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[("127.0.0.1", True), ("::1", True), ("127.8.8.8", True), ("localhost", True)],
        *[("192.0.2.1", False), ("localhost.example.org", False), ("/run/lmtp", True)],
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Relay(host=host).is_loopback is loopback


def test_whether_certificates_are_checked() -> None:
    lax = ssl.create_default_context()
    lax.check_hostname = False
    assert Relay(host="h").verifies
    assert Relay(host="h", ssl_context=ssl.create_default_context()).verifies
    assert not Relay(host="h", ssl_context=lax).verifies
    assert not Relay(host="h", tls_verify=False).verifies


def test_timeouts() -> None:
    assert Timeouts().final_reply == 600  # RFC 5321 section 4.5.3.2.6
    assert Timeouts.all(None) == Timeouts(None, None, None)
    with pytest.raises(OptionError, match="reply timeout"):
        Timeouts(reply=0)


def test_the_names_of_options_are_those_of_the_fields() -> None:
    assert {"host", "url", "timeout", "connect_timeout", "tls"} <= OPTION_NAMES


@pytest.mark.parametrize("given", ["AB" * 32, ["ab" * 32], "SHA256:" + ":".join(["Ab"] * 32)])
def test_a_fingerprint_has_one_form(given: Any) -> None:
    assert Relay(host="h", fingerprint=given).fingerprint == ("ab" * 32,)
    assert Relay(host="h", fingerprint=given).verifies


def test_several_fingerprints_for_the_days_of_a_rollover() -> None:
    relay = Relay.from_url(f"smtp://h?fingerprint={'a' * 64},{'B' * 64}")
    assert relay.fingerprint == ("a" * 64, "b" * 64)


def test_a_token_provider_may_be_a_dotted_path() -> None:
    relay = Relay.from_options(host="h", username="u", token_provider="os:getcwd")
    assert relay.token_provider is os.getcwd
    assert relay == relay.using()
    assert hash(relay)


def test_the_names_of_mechanisms_are_those_that_there_are() -> None:
    assert tuple(MECHANISMS) == MECHANISM_NAMES
    relay = Relay(host="h", auth_mechanisms="plain LOGIN")
    assert relay.auth_mechanisms == ("PLAIN", "LOGIN")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("port", ["9" * 5000, "²", "٣", 10**5000]),
        ("max_messages", ["9" * 5000, "²", "٣"]),
        ("timeout", ["9" * 5000, "²", 10**5000]),
    ],
    ids=["port", "count", "seconds"],
)
def test_numbers_that_python_cannot_read_or_write_are_errors_of_ours(
    name: str, values: list[Any]
) -> None:
    """More than 4300 digits are a ValueError of Python's, which names no option."""
    for value in values:
        with pytest.raises(OptionError, match=name):
            Relay.from_options({name: value}, host="h")


def test_pool_times_without_end_stay_so() -> None:
    """None and infinity, also where the pool's other options are given beside them."""
    pool = PoolOptions(max_age=None, wait_timeout=math.inf)  # type: ignore[arg-type]
    relay = Relay.from_options(host="h", pool=pool, max_connections=3)
    assert (relay.pool.max_age, relay.pool.wait_timeout) == (math.inf, math.inf)
    assert relay.pool.max_connections == 3
    with pytest.raises(OptionError, match="wait_timeout must be more than 0"):
        PoolOptions(wait_timeout=0)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Relay, "auth_pause"), (RetryPolicy, "delay"), (RetryPolicy, "max_delay")],
)
def test_a_pause_has_a_length(kind: Any, name: str) -> None:
    """None would be found out in the middle of a send, when it is first waited."""
    where = {"host": "mx.example.org"} if kind is Relay else {}
    with pytest.raises(OptionError, match=f"{name} must be a number of seconds, not None"):
        kind(**where, **{name: None})
