"""Arguments, settings and MAILERS; what is wrong in them, and who says so."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.test import override_settings

from mailbridge import TLS, OnRefused
from mailbridge.testing import ScriptedServer, TestCA
from mailbridge_django import EmailBackend, conf
from tests.django.conftest import BACKEND

MAILERS = django.VERSION >= (6, 1)
ERROR: type[Exception]
if MAILERS:
    from django.core.mail import InvalidMailer as ERROR
else:
    ERROR = ImproperlyConfigured

# Where an alias is configured.
PLACE = "MAILERS" if MAILERS else "MAILBRIDGE_MAILERS"
ATTRIBUTES = (*conf.DJANGO_OPTIONS, "fail_silently", "alias")


def with_alias(**options: Any) -> EmailBackend:
    return EmailBackend(alias="news", **{"host": "mail.example.com", **options})


def values(backend: EmailBackend) -> dict[str, Any]:
    return {name: getattr(backend, name) for name in ATTRIBUTES}


# The constructor.


def test_positional_arguments_are_djangos() -> None:
    backend = EmailBackend(
        "h.example", 2525, "u", "p", False, True, True, 7, "key.pem", "cert.pem", alias="x"
    )
    assert values(backend) == {
        "host": "h.example",
        "port": 2525,
        "username": "u",
        "password": "p",
        "use_tls": False,
        "fail_silently": True,
        "use_ssl": True,
        "timeout": 7,
        "ssl_keyfile": "key.pem",
        "ssl_certfile": "cert.pem",
        "alias": "x",
    }
    assert isinstance(backend, BaseEmailBackend)
    assert backend.cacheable is True


SETTINGS = override_settings(
    EMAIL_HOST="settings.example",
    EMAIL_PORT=822,
    EMAIL_HOST_USER="user",
    EMAIL_HOST_PASSWORD="password",
    EMAIL_USE_TLS=True,
    EMAIL_TIMEOUT=9,
    EMAIL_SSL_CERTFILE="foo",
    EMAIL_SSL_KEYFILE="bar",
    MAILBRIDGE={"local_hostname": "app.example.org", "on_refused": "abort"},
)


@SETTINGS
def test_settings_fill_in_what_is_not_given() -> None:
    backend = EmailBackend()
    assert values(backend) == {
        "host": "settings.example",
        "port": 822,
        "username": "user",
        "password": "password",
        "use_tls": True,
        "use_ssl": False,
        "timeout": 9,
        "ssl_keyfile": "bar",
        "ssl_certfile": "foo",
        "fail_silently": False,
        "alias": None,
    }
    assert backend.on_refused is OnRefused.ABORT
    assert backend.options == {"local_hostname": "app.example.org"}


@SETTINGS
def test_arguments_count_more_than_settings() -> None:
    backend = EmailBackend(
        "h.example",
        25,
        username="",
        password="",
        use_tls=False,
        use_ssl=True,
        timeout=3,
        on_refused="report",
        local_hostname="b.example",
    )
    assert (backend.host, backend.port, backend.timeout) == ("h.example", 25, 3)
    assert (backend.username, backend.password) == ("", "")
    assert (backend.use_tls, backend.use_ssl) == (False, True)
    assert backend.on_refused is OnRefused.REPORT
    assert backend.options == {"local_hostname": "b.example"}


@SETTINGS
def test_an_empty_host_is_as_good_as_none() -> None:
    assert EmailBackend(host="", port=0).host == "settings.example"


@SETTINGS
def test_no_setting_is_read_with_an_alias() -> None:
    assert values(with_alias()) == {
        "host": "mail.example.com",
        "port": 25,
        "username": None,
        "password": None,
        "use_tls": False,
        "use_ssl": False,
        "timeout": None,
        "ssl_keyfile": None,
        "ssl_certfile": None,
        "fail_silently": False,
        "alias": "news",
    }
    assert with_alias().options == {}


@SETTINGS
@override_settings(EMAIL_SSL_CERTFILE=None, EMAIL_SSL_KEYFILE=None)
def test_a_url_takes_the_place_of_the_server() -> None:
    backend = EmailBackend(url="smtps://ida:s3cret@mx.example.org?reply_timeout=5")
    assert (backend.host, backend.port) == ("mx.example.org", 465)
    assert (backend.username, backend.password) == ("ida", "s3cret")
    assert (backend.use_ssl, backend.use_tls) == (True, False)
    timeouts = conf.relay_of(backend).timeouts
    assert (timeouts.reply, timeouts.final_reply) == (5, 9)  # EMAIL_TIMEOUT for the rest


@pytest.mark.parametrize(
    ("beside", "wrong"),
    [
        ({"host": "other.example.org"}, "host"),
        ({"port": 1025}, "port"),
        ({"host": "MX.example.org", "port": "465"}, None),
        ({"username": "ida", "password": "S3cret"}, "password"),
        ({"reply_timeout": 6}, "reply_timeout"),
        ({"connect_timeout": 6, "host": None}, None),
    ],
)
def test_what_contradicts_the_url_beside_it_is_an_error(
    beside: dict[str, Any], wrong: str | None
) -> None:
    options = {"url": "smtps://ida:s3cret@mx.example.org?reply_timeout=5", **beside}
    if wrong is None:
        assert EmailBackend(alias="news", **options).host.lower() == "mx.example.org"
        return
    text = f"'{wrong}' and 'url' contradict each other"
    with pytest.raises(ERROR, match=text) as caught:
        EmailBackend(alias="news", **options)
    assert "cret" not in str(caught.value)
    with override_settings(EMAIL_BACKEND="mailbridge_django.EmailBackend", MAILBRIDGE=options):
        with pytest.raises(ImproperlyConfigured, match=text):
            EmailBackend()


@SETTINGS
def test_reading_a_setting_of_old_is_no_reason_to_warn() -> None:
    # Under -W error a warning of ours would stop the mail.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert EmailBackend().host == "settings.example"


@pytest.mark.skipif(not MAILERS, reason="MAILERS came with Django 6.1")
def test_settings_of_old_are_not_available_with_mailers() -> None:
    with override_settings(MAILERS={}), pytest.raises(AttributeError, match="EMAIL_HOST"):
        EmailBackend()


@override_settings(MAILBRIDGE={"host": "ours.example", "port": 26, "tls": "starttls"})
def test_mailbridge_counts_before_email_settings() -> None:
    backend = EmailBackend()
    assert (backend.host, backend.port, backend.use_tls) == ("ours.example", 26, True)


@pytest.mark.parametrize(
    ("options", "port"),
    [
        ({}, 25),
        ({"use_ssl": True}, 465),
        ({"use_tls": True}, 587),
        ({"username": "u", "password": "p"}, 25),
        ({"tls": "implicit"}, 465),
        ({"tls": "starttls"}, 587),
        ({"tls": "opportunistic"}, 25),
        ({"lmtp": True}, 24),
        ({"port": "2525"}, 2525),
    ],
)
def test_default_port_with_an_alias(options: dict[str, Any], port: int) -> None:
    assert with_alias(**options).port == port


def test_default_port_of_old_does_not_depend_on_tls() -> None:
    assert EmailBackend(host="mail.example.com", use_tls=True).port == 25


def test_tls_mode_shows_in_the_attributes() -> None:
    assert with_alias(tls="implicit").use_ssl is True
    assert with_alias(tls="STARTTLS").use_tls is True
    backend = with_alias(tls="opportunistic")
    assert (backend.use_tls, backend.use_ssl) == (False, False)
    assert conf.relay_of(backend).tls is TLS.OPPORTUNISTIC
    assert conf.relay_of(with_alias()).tls is TLS.NONE


def test_attributes_that_a_subclass_sets_afterwards_count() -> None:
    backend = with_alias()
    backend.host, backend.port, backend.use_tls = "other.example", 2525, True
    backend.username, backend.password = "u", "p"
    relay = conf.relay_of(backend)
    assert (relay.address, relay.tls, relay.username) == ("other.example:2525", TLS.STARTTLS, "u")


def test_half_of_the_credentials_means_no_login() -> None:
    # As in Django: EMAIL_HOST_USER alone is common where no AUTH is needed.
    assert conf.relay_of(with_alias(username="u")).username is None


def test_timeouts() -> None:
    relay = conf.relay_of(with_alias())
    assert (relay.timeouts.connect, relay.timeouts.reply) == (10, 60)
    assert relay.timeouts.final_reply == 600
    assert conf.relay_of(with_alias(timeout=5)).timeouts.final_reply == 5
    assert conf.relay_of(with_alias(timeout=5, final_reply_timeout=300)).timeouts.final_reply == 300


# What is wrong.


WRONG = [
    ({"port": "smtp"}, ["port", "must be a number"]),
    ({"port": 70000}, ["port", "must be a number"]),
    ({"host": ""}, ["host is missing", "name the mail server"]),
    ({"host": "a b"}, ["host"]),
    ({"timeout": "soon"}, ["timeout", "number of seconds"]),
    ({"timeout": 0}, ["timeout", "more than 0"]),
    ({"tls": "maybe"}, ["tls", "'starttls'"]),
    ({"tls": "none", "use_tls": True}, ["'use_tls'", "tls='none'", "drop one"]),
    ({"tls": "starttls", "use_ssl": True}, ["'use_ssl'", "tls='starttls'", "drop one"]),
    ({"on_refused": "panic"}, ["on_refused", "'raise_if_all'"]),
    ({"local_hostname": "a b"}, ["local_hostname"]),
    ({"source_address": "nowhere"}, ["source_address", "no IP address"]),
    ({"ca_file": "ca.pem"}, ["ca_file", "tls"]),
    ({"keyfile": "k", "use_tls": True}, ["keyfile", "certfile"]),
    ({"ssl_keyfile": "k", "use_tls": True}, ["ssl_keyfile", "ssl_certfile"]),
    (
        {"ssl_certfile": "a", "certfile": "b", "use_tls": True},
        ["'ssl_certfile'", "'certfile'", "drop one"],
    ),
    ({"url": "http://mail.example.org"}, ["url", "smtps"]),
    ({"username": "a\0b", "password": "p"}, ["username", "NUL"]),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_wrong_options(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ERROR) as caught:
        with_alias(**options)
    assert str(caught.value).startswith(f"{PLACE}['news']: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("options", "words"), [w for w in WRONG if w[0].get("host") != ""])
def test_wrong_options_without_an_alias(options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        EmailBackend(**options)
    for word in words:
        assert word in str(caught.value)


@override_settings(MAILBRIDGE={"url": "smtp://us@er:p#w@mail.example.org"})
def test_a_mistake_in_a_url_is_not_blamed_on_a_setting() -> None:
    with pytest.raises(ImproperlyConfigured, match="url: the port is malformed") as caught:
        EmailBackend()
    assert "EMAIL_" not in str(caught.value)


@override_settings(EMAIL_PORT="smtp")
def test_the_setting_is_named() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"port 'smtp'.*\(EMAIL_PORT\)"):
        EmailBackend()


@override_settings(EMAIL_HOST="")
def test_a_missing_host_in_the_settings() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"host is missing.*\(EMAIL_HOST\)"):
        EmailBackend()


def test_a_missing_host_with_an_alias() -> None:
    with pytest.raises(ERROR, match=r"MAILERS\['news'\]: OPTIONS must define 'host'\."):
        EmailBackend(alias="news")


def test_both_kinds_of_tls() -> None:
    with pytest.raises(ERROR) as caught:
        with_alias(use_ssl=True, use_tls=True)
    assert str(caught.value) == (
        f"{PLACE}['news']: The 'use_ssl' and 'use_tls' OPTIONS are incompatible. "
        "Set at most one of them to True."
    )


@override_settings(EMAIL_USE_SSL=True, EMAIL_USE_TLS=True)
def test_both_kinds_of_tls_in_the_settings() -> None:
    with pytest.raises(ValueError, match=r"^EMAIL_USE_TLS/EMAIL_USE_SSL are mutually exclusive"):
        EmailBackend()


def test_unknown_options_with_an_alias() -> None:
    with pytest.raises(ERROR) as caught:
        with_alias(hsot="x", qqqq=1)
    text = str(caught.value)
    assert text.startswith(f"{PLACE}['news']: Unknown options 'hsot', 'qqqq'.")
    assert "did you mean 'host'" in text.lower()


@pytest.mark.skipif(not MAILERS, reason="swallowed without a word before Django 6.1")
def test_unknown_options_without_an_alias_warn() -> None:
    name = r"mailbridge_django\.backends\.smtp\.EmailBackend"
    with pytest.warns(PendingDeprecationWarning, match=rf"{name}.*does not support 'hsot'"):
        backend = EmailBackend(hsot="x")
    assert not hasattr(backend, "hsot")


@pytest.mark.skipif(MAILERS, reason="a warning since Django 6.1")
def test_unknown_options_without_an_alias_are_ignored() -> None:
    assert not hasattr(EmailBackend(hsot="x"), "hsot")


def test_unknown_options_that_django_says_to_ignore() -> None:
    backend = with_alias(username="u", auth=1, _ignore_unknown_kwargs={"username", "auth"})
    assert backend.username == "u"


@override_settings(MAILBRIDGE={"local_hostnam": "x"})
def test_unknown_keys_of_mailbridge() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"MAILBRIDGE: Unknown .*'local_hostname'"):
        EmailBackend()


@override_settings(MAILBRIDGE=["local_hostname"])
def test_mailbridge_must_be_a_dictionary() -> None:
    with pytest.raises(ImproperlyConfigured, match="MAILBRIDGE must be a dictionary"):
        EmailBackend()


@pytest.mark.parametrize("option", ["ssl_certfile", "ca_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_file_that_is_none(
    option: str, content: str | None, tmp_path: Path, backend: Callable[..., EmailBackend]
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    # Instances are cheap: the file is looked at when it is needed.
    unused = backend(use_tls=True, **{option: str(path)})
    with pytest.raises(ERROR, match=rf"MAILERS\['test'\]: .*{option}.*file\.pem"):
        unused.open()
    with pytest.raises(ERROR, match=option):
        _ = unused.ssl_context
    unused.fail_silently = True
    with pytest.raises(ERROR, match=option):
        unused.send_messages([EmailMessage(to=["a@example.com"])])


@pytest.mark.skipif(not MAILERS, reason="MAILERS came with Django 6.1")
def test_using_a_mailer(smtpd: ScriptedServer, ca: TestCA) -> None:
    options = {"host": smtpd.host, "port": smtpd.port, "timeout": 5}
    with override_settings(
        MAILERS={
            "bulk": {"BACKEND": BACKEND, "OPTIONS": options},
            "typo": {"BACKEND": BACKEND, "OPTIONS": {**options, "time_out": 5}},
        }
    ):
        assert mail.send_mail("Hi", "Body", None, ["a@example.com"], using="bulk") == 1
        assert (mail.mailers["bulk"].alias, mail.mailers["bulk"].timeout) == ("bulk", 5)
        assert mail.mailers["bulk"] is not mail.mailers["bulk"]
        with pytest.raises(ERROR, match=r"MAILERS\['typo'\]: Unknown options 'time_out'"):
            mail.mailers["typo"]
    assert len(smtpd.messages) == 1


def test_importing_needs_no_settings() -> None:
    code = "import mailbridge_django; print(mailbridge_django.EmailBackend.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "EmailBackend\n"
