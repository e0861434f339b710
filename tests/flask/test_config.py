"""MAIL_* names: defaults, conversions, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from mailbridge import TLS, OnRefused, OptionError
from mailbridge_flask import Config, Mail
from mailbridge_flask.config import KNOWN, setting_of
from tests.option_samples import SAMPLES


def read(**settings: Any) -> Config:
    return Config.from_mapping(settings)


def test_defaults_are_those_of_flask_mail() -> None:
    config = read()
    assert (config.relay.host, config.relay.port) == ("127.0.0.1", 25)
    assert config.relay.tls is TLS.NONE
    assert config.relay.username is None
    assert config == Config(relay=config.relay)
    assert config.on_refused is OnRefused.RAISE
    assert Config.from_mapping({}, debug=True).debug


def test_the_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        read().debug = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "tls", "port"),
    [
        ({}, TLS.NONE, 25),
        ({"MAIL_USE_TLS": False}, TLS.NONE, 25),
        ({"MAIL_USE_TLS": True}, TLS.STARTTLS, 25),
        ({"MAIL_USE_TLS": "true", "MAIL_PORT": "587"}, TLS.STARTTLS, 587),
        ({"MAIL_USE_SSL": 1}, TLS.IMPLICIT, 465),
        ({"MAIL_USE_SSL": True, "MAIL_PORT": 4650}, TLS.IMPLICIT, 4650),
        ({"MAIL_USE_TLS": "False", "MAIL_USE_SSL": "True"}, TLS.IMPLICIT, 465),
        ({"MAIL_TLS": "starttls"}, TLS.STARTTLS, 587),
        ({"MAIL_TLS": "opportunistic"}, TLS.OPPORTUNISTIC, 25),
        ({"MAIL_USE_TLS": True, "MAIL_TLS": "starttls"}, TLS.STARTTLS, 587),
        ({"MAIL_USERNAME": "u", "MAIL_PASSWORD": "p"}, TLS.NONE, 25),
        ({"MAIL_LMTP": True}, TLS.NONE, 24),
        ({"MAIL_URL": "smtps://mx.example.org"}, TLS.IMPLICIT, 465),
        ({"MAIL_URL": "smtp://mx.example.org?tls=starttls"}, TLS.STARTTLS, 587),
        ({"MAIL_URL": "smtp://mx.example.org:2525"}, TLS.OPPORTUNISTIC, 2525),
        ({"MAIL_URL": "smtp://mx.example.org", "MAIL_USE_TLS": True}, TLS.STARTTLS, 587),
        ({"MAIL_URL": "smtp://mx.example.org", "MAIL_USE_TLS": False}, TLS.OPPORTUNISTIC, 25),
    ],
)
def test_tls_and_port(settings: dict[str, Any], tls: TLS, port: int) -> None:
    relay = read(**settings).relay
    assert (relay.tls, relay.port) == (tls, port)
    assert relay.verifies


@pytest.mark.parametrize(
    "settings",
    [
        {"MAIL_SERVER": "mx.example.org", "MAIL_PORT": "465"},
        {"MAIL_USERNAME": "u", "MAIL_PASSWORD": "p"},
        {"MAIL_TIMEOUT": 5, "MAIL_TLS": "IMPLICIT"},
        {"MAIL_SERVER": "", "MAIL_PORT": None},
    ],
)
def test_beside_a_url_there_may_be_what_it_leaves_open_or_says_too(
    settings: dict[str, Any],
) -> None:
    relay = read(MAIL_URL="smtps://MX.example.org?timeout=5", **settings).relay
    assert relay.address == "mx.example.org:465"


def test_our_own_options(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    relay = read(
        MAIL_URL="smtp://u%40x:p%2Fw@mx.example.org",
        MAIL_USE_TLS=True,
        MAIL_TIMEOUT="20",
        MAIL_CONNECT_TIMEOUT=3,
        MAIL_CA_FILE=ca_file,
        MAIL_SERVER_HOSTNAME="relay.example.org",
        MAIL_LOCAL_HOSTNAME="web1.example.org",
        MAIL_TLS_VERIFY="yes",
        MAIL_IGNORE_EXTENSIONS="chunking, dsn",
    ).relay
    assert (relay.username, relay.password and relay.password.reveal()) == ("u@x", "p/w")
    assert (relay.timeouts.connect, relay.timeouts.reply) == (3, 20)
    assert relay.ca_file == str(ca_file)
    assert relay.server_hostname == "relay.example.org"
    assert relay.local_hostname == "web1.example.org"
    assert relay.ignore_extensions == {"CHUNKING", "DSN"}


def test_none_and_the_empty_text_are_as_if_not_set() -> None:
    assert read(**dict.fromkeys(KNOWN)) == read()
    assert read(**dict.fromkeys(KNOWN, "")) == read()


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SERVER": "mx.example.org",
        "PORT": "2525",
        "USE_TLS": "True",
        "USERNAME": "me",
        "PASSWORD": "12345",
        "DEFAULT_SENDER": '["The Site", "site@example.org"]',
        "MAX_EMAILS": "7",
        "ASCII_ATTACHMENTS": "yes",
        "DEBUG": "0",
    }.items():
        monkeypatch.setenv(f"FLASK_MAIL_{name}", value)
    app = Flask("site")
    app.config.from_prefixed_env()
    config = Mail().init_app(app).config
    assert config.relay.address == "mx.example.org:2525"
    assert config.relay.tls is TLS.STARTTLS
    assert config.relay.password is not None
    assert config.relay.password.reveal() == "12345"
    assert config.default_sender == ("The Site", "site@example.org")
    assert config.max_emails == 7
    assert config.ascii_attachments
    assert not config.debug


def test_no_secret_is_shown() -> None:
    config = read(MAIL_USERNAME="me", MAIL_PASSWORD="s3cret")
    assert "s3cret" not in repr(config)
    assert "s3cret" not in repr(config._asdict()["relay"])


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"MAIL_USE_TLS": True, "MAIL_USE_SSL": True}, r"MAIL_USE_TLS and MAIL_USE_SSL are both set"),
    ({"MAIL_USE_TLS": "maybe"}, r"MAIL_USE_TLS is 'maybe', .* set True or False"),
    ({"MAIL_USE_TLS": True, "MAIL_TLS": "none"}, r"MAIL_USE_TLS and MAIL_TLS='none'"),
    ({"MAIL_USE_SSL": True, "MAIL_URL": "smtp://mx"}, r"MAIL_USE_SSL and MAIL_URL contradict"),
    ({"MAIL_USE_TLS": True, "MAIL_URL": "smtps://mx"}, r"MAIL_USE_TLS and MAIL_URL contradict"),
    ({"MAIL_URL": "smtp://a.example", "MAIL_SERVER": "b.example"}, r"MAIL_SERVER and MAIL_URL"),
    ({"MAIL_URL": "smtp://a.example:25", "MAIL_PORT": 26}, r"MAIL_PORT and .* drop MAIL_PORT"),
    ({"MAIL_URL": "smtp://a.example", "MAIL_PORT": 1025}, r"MAIL_PORT and MAIL_URL contradict"),
    (
        {"MAIL_URL": "smtp://u:p@mx", "MAIL_USERNAME": "u", "MAIL_PASSWORD": "P"},
        r"^(?=.*MAIL_PASSWORD and MAIL_URL)(?!.*u:p)",
    ),
    ({"MAIL_URL": "smtp://mx?timeout=5", "MAIL_TIMEOUT": 6}, r"MAIL_TIMEOUT and MAIL_URL"),
    ({"MAIL_TLS": "ssl"}, r"MAIL_TLS 'ssl' is not one of"),
    ({"MAIL_PORT": "smtp"}, r"MAIL_PORT"),
    ({"MAIL_PORT": 70000}, r"MAIL_PORT"),
    ({"MAIL_PORT": True}, r"MAIL_PORT"),
    ({"MAIL_SERVER": "a b"}, r"MAIL_SERVER"),
    ({"MAIL_SERVER": "smtp://mx"}, r"give the port as MAIL_PORT, a URL as MAIL_URL"),
    ({"MAIL_SERVER": "mx\r\nevil"}, r"MAIL_SERVER"),
    ({"MAIL_URL": "http://mx"}, r"MAIL_URL: scheme 'http'"),
    ({"MAIL_URL": "smtp://u:s3cret/x@mx"}, r"MAIL_URL"),
    ({"MAIL_USERNAME": "me"}, r"MAIL_USERNAME is set but MAIL_PASSWORD is not"),
    ({"MAIL_PASSWORD": "me"}, r"MAIL_PASSWORD is set but MAIL_USERNAME is not"),
    ({"MAIL_PASSWORD": 1.5, "MAIL_USERNAME": "me"}, r"MAIL_PASSWORD is a float, .* quotes"),
    ({"MAIL_PASSWORD": True, "MAIL_USERNAME": "me"}, r"MAIL_PASSWORD is a bool, .* quotes"),
    ({"MAIL_TIMEOUT": 0}, r"MAIL_TIMEOUT must be more than 0"),
    ({"MAIL_TIMEOUT": "soon"}, r"MAIL_TIMEOUT 'soon'"),
    ({"MAIL_CONNECT_TIMEOUT": -1}, r"MAIL_CONNECT_TIMEOUT must be more than 0"),
    ({"MAIL_CA_FILE": "/no/port.pem", "MAIL_USE_TLS": True}, r"MAIL_CA_FILE '/no/port.pem'"),
    ({"MAIL_CA_FILE": "/no/file"}, r"MAIL_CA_FILE is set but MAIL_TLS is 'none'|MAIL_CA_FILE"),
    ({"MAIL_KEYFILE": __file__, "MAIL_USE_TLS": True}, r"MAIL_KEYFILE .* MAIL_CERTFILE"),
    ({"MAIL_LOCAL_HOSTNAME": "a\r\nb"}, r"MAIL_LOCAL_HOSTNAME"),
    ({"MAIL_DEFAULT_SENDER": "no body"}, r"MAIL_DEFAULT_SENDER: .* give 'a@example.org'"),
    ({"MAIL_DEFAULT_SENDER": ("Me", None)}, r"MAIL_DEFAULT_SENDER"),
    ({"MAIL_DEFAULT_SENDER": "a@b.example\nBcc: c@d"}, r"MAIL_DEFAULT_SENDER"),
    ({"MAIL_MAX_EMAILS": "many"}, r"MAIL_MAX_EMAILS is 'many'"),
    ({"MAIL_MAX_EMAILS": -1}, r"MAIL_MAX_EMAILS is -1"),
    ({"MAIL_SUPPRESS_SEND": "perhaps"}, r"MAIL_SUPPRESS_SEND is 'perhaps'"),
    ({"MAIL_DEBUG": "verbose"}, r"MAIL_DEBUG is 'verbose'"),
    ({"MAIL_ASCII_ATTACHMENTS": []}, r"MAIL_ASCII_ATTACHMENTS"),
    ({"MAIL_SEVER": "mx"}, r"MAIL_SEVER: did you mean MAIL_SERVER\?"),
    ({"MAIL_PROT": 25}, r"did you mean MAIL_PORT\?"),
    ({"MAIL_USE_TSL": True}, r"did you mean MAIL_USE_SSL or MAIL_USE_TLS\?"),
    ({"MAIL_PASWORD": "x"}, r"did you mean MAIL_PASSWORD\?"),
    ({"MAIL_SUPRESS_SEND": True}, r"did you mean MAIL_SUPPRESS_SEND\?"),
    ({"MAIL_HOST": "mx"}, r"MAIL_HOST .* set MAIL_SERVER"),
    ({"MAIL_SSL": True}, r"MAIL_SSL .* set MAIL_USE_SSL"),
    ({"MAIL_STARTTLS": True}, r"MAIL_STARTTLS .* set MAIL_USE_TLS"),
]


@pytest.mark.parametrize(("settings", "text"), MISTAKES)
def test_a_mistake_is_named_as_the_user_wrote_it(settings: dict[str, Any], text: str) -> None:
    app = Flask("site")
    app.config.update(settings)
    with pytest.raises(OptionError, match=text) as caught:
        Mail(app)
    assert isinstance(caught.value, ValueError)
    assert "s3cret" not in str(caught.value)
    assert "mail" not in app.extensions


@pytest.mark.parametrize(
    "settings",
    [
        {"MAIL_BACKEND": "smtp", "MAIL_FILE_PATH": "/x", "MAIL_USE_LOCALTIME": True},
        {"MAIL_SUBJECT_PREFIX": "[x]", "MAIL_SENDER": "a", "MAIL_ADMIN": "a@b", "MAIL_FROM": "x"},
        {"MAIL_DEFAULT_SENDER_NAME": "x", "MAIL_SERVER_NAME": "x", "MAIL_DEFAULT_CHARSET": "x"},
        {"MAIL_HOST": "mx", "MAIL_SERVER": "mx"},
        {"MAIL_SSL": False, "MAIL_STARTTLS": "false"},
        {"MAILER": 1, "SECURITY_EMAIL_SENDER": "x"},
    ],
)
def test_names_of_others_are_left_alone(settings: dict[str, Any]) -> None:
    read(**settings)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_every_option_of_the_core_counts(name: str) -> None:
    sample = SAMPLES[name]
    beside = {} if name == "url" else {"host": "mail.example.org"}
    given = {**beside, **sample.beside, name: sample.value}
    config = Config.from_mapping({setting_of(option): value for option, value in given.items()})
    assert sample.arrived(config.relay, config)
    default = Config.from_mapping({"MAIL_SERVER": "other.example.org"})
    assert not sample.arrived(default.relay, default)
