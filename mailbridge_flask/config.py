"""The only reader of ``app.config``: MAIL_* names to a frozen Config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import mailbridge
from mailbridge import TLS, AddressError, OnRefused, OptionError, Relay, RetryPolicy
from mailbridge.convert import hook, limit, seconds, words
from mailbridge.observe import Observer, observers
from mailbridge.options import OPTION_NAMES, RETRY_OPTIONS

from . import headers

if TYPE_CHECKING:
    from mailbridge import Esmtp
    from mailbridge.hooks import Hook


def setting_of(option: str) -> str:
    """The name in app.config of an option of the core."""
    return "MAIL_SERVER" if option == "host" else f"MAIL_{option.upper()}"


#: Options of the relay under their names in app.config: MAIL_TIMEOUT is `timeout`, and so on.
RELAY_SETTINGS: Final = {setting_of(name): name for name in OPTION_NAMES}
#: When to try again: fields of RetryPolicy.
RETRY_SETTINGS: Final = {setting_of(name): field for name, field in RETRY_OPTIONS.items()}
KNOWN: Final = frozenset(RELAY_SETTINGS) | {
    *("MAIL_USE_TLS", "MAIL_USE_SSL", "MAIL_DEFAULT_SENDER", "MAIL_DEBUG", "MAIL_MAX_EMAILS"),
    *("MAIL_SUPPRESS_SEND", "MAIL_ASCII_ATTACHMENTS", "MAIL_ON_REFUSED"),
    *("MAIL_RELAYS", "MAIL_ROUND_ROBIN", "MAIL_DEADLINE", "MAIL_ESMTP", *RETRY_SETTINGS),
    *("MAIL_MAX_RECIPIENTS", "MAIL_ON_REPORT", "MAIL_BEFORE_FINAL_DOT", "MAIL_AFTER_REPLY"),
    *("MAIL_OUTBOX", "MAIL_OUTBOX_SEND", "MAIL_PREVIEW_ALLOWED", "MAIL_MAILERS"),
}
# What other mail extensions call it. To pass over these would mean to send in the clear, or to
# the wrong server; so they are an error unless our own setting is there as well.
ELSEWHERE: Final = {
    "MAIL_HOST": "MAIL_SERVER",
    "MAIL_SSL": "MAIL_USE_SSL",
    "MAIL_SSL_TLS": "MAIL_USE_SSL",
    "MAIL_STARTTLS": "MAIL_USE_TLS",
    "MAIL_USE_STARTTLS": "MAIL_USE_TLS",
    "MAIL_SSL_CERTFILE": "MAIL_CERTFILE",
    "MAIL_SSL_KEYFILE": "MAIL_KEYFILE",
}
# Words of their own in an error text only where they stand at its beginning.
_AS_SETTINGS: Final = "give the port as MAIL_PORT, a URL as MAIL_URL"
# Where the core's advice speaks of options by names that are common words.
_IN_ADVICE: Final = {
    "tls='starttls'": "MAIL_USE_TLS",
    "tls='implicit'": "MAIL_USE_SSL",
    "host and port": "MAIL_SERVER and MAIL_PORT",
    "the host option": "MAIL_SERVER",
    "username and password": "MAIL_USERNAME and MAIL_PASSWORD",
    "fingerprint": "MAIL_FINGERPRINT",
    "deadline": "MAIL_DEADLINE",
}
_COMMON_WORDS: Final = {"host", "port", "url", "tls", "timeout", "lmtp", "pool"}


class Config(NamedTuple):
    """What was configured for one application. Immutable; repr hides the password."""

    relay: Relay
    on_refused: OnRefused = OnRefused.RAISE
    default_sender: str | tuple[str, str] | None = None
    debug: bool = False
    max_emails: int | None = None
    ascii_attachments: bool = False
    retry: RetryPolicy = RetryPolicy()
    relays: tuple[Relay, ...] = ()
    round_robin: bool = False
    deadline: float | None = None
    max_recipients: int | None = None
    esmtp: Esmtp | None = None
    on_report: tuple[Observer, ...] = ()
    before_final_dot: Hook | None = None
    after_reply: Hook | None = None
    #: The path of a Maildir; True is one in the instance directory. None captures nothing.
    outbox: str | bool | None = None
    outbox_send: bool = False

    @classmethod
    def from_mapping(
        cls, settings: Mapping[str, Any], *, debug: bool = False,
        inherited: Mapping[str, Any] | None = None,
    ) -> Config:  # fmt: skip
        """Read the MAIL_* names in `settings`; texts from the environment are converted.

        `debug` is the default of MAIL_DEBUG, `inherited` has that of settings that are not there.
        Raises OptionError (a ValueError) that names the setting and says what to do.
        """
        given = _given({**(inherited or {}), **settings})
        _check_names(given)
        suppress_send(given)
        max_emails = _count("MAIL_MAX_EMAILS", given.get("MAIL_MAX_EMAILS"))
        relay = _relay(given, max_emails)
        _check_url(_given(settings))
        return cls(
            relay=relay,
            on_refused=_on_refused(given.get("MAIL_ON_REFUSED", OnRefused.RAISE)),
            default_sender=_sender(given.get("MAIL_DEFAULT_SENDER")),
            debug=flag("MAIL_DEBUG", given.get("MAIL_DEBUG", debug)),
            max_emails=max_emails,
            ascii_attachments=flag(
                "MAIL_ASCII_ATTACHMENTS", given.get("MAIL_ASCII_ATTACHMENTS", False)
            ),
            retry=_retry(given),
            relays=_relays(given.get("MAIL_RELAYS", ()), max_emails, relay),
            round_robin=flag("MAIL_ROUND_ROBIN", given.get("MAIL_ROUND_ROBIN", False)),
            deadline=seconds("MAIL_DEADLINE", given.get("MAIL_DEADLINE")),
            max_recipients=limit("MAIL_MAX_RECIPIENTS", given.get("MAIL_MAX_RECIPIENTS")),
            before_final_dot=hook("MAIL_BEFORE_FINAL_DOT", given.get("MAIL_BEFORE_FINAL_DOT")),
            after_reply=hook("MAIL_AFTER_REPLY", given.get("MAIL_AFTER_REPLY")),
            esmtp=_esmtp(given.get("MAIL_ESMTP")),
            on_report=_on_report(given.get("MAIL_ON_REPORT")),
            outbox=_outbox(given.get("MAIL_OUTBOX")),
            outbox_send=flag("MAIL_OUTBOX_SEND", given.get("MAIL_OUTBOX_SEND", False)),
        )


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings.items()
        if name.startswith("MAIL_") and value is not None and value != ""
    }


def _outbox(value: object) -> str | bool | None:
    """A path as it is; words such as "true" and "0" as flags."""
    if value is None or isinstance(value, bool):
        return value or None
    try:
        return flag("MAIL_OUTBOX", str(value)) or None
    except OptionError:
        return str(value)


def suppress_send(settings: Mapping[str, Any]) -> str | None:
    """Why sending is suppressed, or None. Raises OptionError for a value that is no flag."""
    value = settings.get("MAIL_SUPPRESS_SEND")
    if value is not None and value != "":
        return "MAIL_SUPPRESS_SEND is set" if flag("MAIL_SUPPRESS_SEND", value) else None
    return "TESTING is set" if settings.get("TESTING") else None


def flag(name: str, value: object) -> bool:
    """True or False, also out of the texts that stand for them in an environment."""
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on", "t", "y"):
        return True
    if text in ("false", "0", "no", "off", "f", "n", "none", ""):
        return False
    if isinstance(value, int):  # MAIL_DEBUG = 2 was a level of smtplib's
        return True
    raise OptionError(f"{name} is {value!r}, which is neither true nor false: set True or False")


def _relay(given: Mapping[str, Any], max_emails: int | None) -> Relay:
    options = {
        option: given[name]
        for name, option in RELAY_SETTINGS.items()
        if given.get(name) is not None
    }
    for name in ("username", "password"):
        if name in options:
            options[name] = _credential(f"MAIL_{name.upper()}", options[name])
    wanted = _tls(given)
    if "url" not in options:
        options.setdefault("host", "127.0.0.1")
        if "tls" not in options and "lmtp" not in options:
            # Flask-Mail's port, whatever is configured; but nobody speaks implicit TLS there.
            options.setdefault("port", 465 if wanted is TLS.IMPLICIT else 25)
        options.setdefault("tls", wanted or TLS.NONE)
    elif wanted is not None:
        options["tls"] = wanted
    try:
        return _limited(Relay.from_options(options), max_emails)
    except OptionError as exc:
        raise OptionError(_in_our_names(str(exc))) from exc
    except AddressError as exc:
        raise OptionError(f"MAIL_SERVER: {exc}") from exc


def _check_url(given: Mapping[str, Any]) -> None:
    """Raise OptionError if a setting says something else than the MAIL_URL beside it."""
    beside = {option: given[name] for name, option in RELAY_SETTINGS.items() if name in given}
    if (url := beside.pop("url", None)) is None:
        return
    # Imported here: most settings name the host.
    from mailbridge.url import contradicted

    option = contradicted(url, beside, OPTION_NAMES)
    if option is not None:
        name = setting_of(option)
        raise OptionError(
            f"{name} and MAIL_URL contradict each other: drop {name}, and put into the URL"
            " what is to count"
        )


def _limited(relay: Relay, max_emails: int | None) -> Relay:
    """The relay with MAIL_MAX_EMAILS, after which Flask-Mail makes a new connection."""
    if max_emails is None:
        return relay
    limits = [limit for limit in (max_emails, relay.pool.max_messages) if limit is not None]
    return relay.using(pool=replace(relay.pool, max_messages=min(limits)))


def _relays(given: Any, max_emails: int | None, first: Relay) -> tuple[Relay, ...]:
    """The relays to go on to, each from its URL."""
    try:
        urls = words("MAIL_RELAYS", given)
        relays = [_limited(Relay.from_url(url), max_emails) for url in urls]
    except OptionError as exc:
        raise OptionError(f"MAIL_RELAYS: {exc}") from exc
    return tuple(relay.treating_content_as(first) for relay in relays)


def _esmtp(given: Any) -> Esmtp | None:
    try:
        return None if given is None else mailbridge.Esmtp.of(given)
    except OptionError as exc:
        raise OptionError(f"MAIL_ESMTP: {exc}") from exc


def _retry(given: Mapping[str, Any]) -> RetryPolicy:
    fields = {RETRY_SETTINGS[name]: given[name] for name in RETRY_SETTINGS if name in given}
    for name, value in fields.items():
        try:
            RetryPolicy(**{name: value})
        except OptionError as exc:
            setting = next(setting for setting, known in RETRY_SETTINGS.items() if known == name)
            raise OptionError(f"{setting}: {exc}") from exc
    return RetryPolicy(**fields)


def _tls(given: Mapping[str, Any]) -> TLS | None:
    modes = {"MAIL_USE_TLS": TLS.STARTTLS, "MAIL_USE_SSL": TLS.IMPLICIT}
    set_ = [name for name in modes if flag(name, given.get(name, False))]
    if len(set_) == 2:
        raise OptionError(
            "MAIL_USE_TLS and MAIL_USE_SSL are both set: keep MAIL_USE_TLS for STARTTLS"
            " (mostly port 587), or MAIL_USE_SSL for TLS from the first byte (port 465)"
        )
    if not set_:
        return None
    (name,) = set_
    mode = modes[name]
    if str(given.get("MAIL_TLS", mode)).lower() != mode:
        raise OptionError(
            f"{name} and MAIL_TLS={given['MAIL_TLS']!r} contradict each other: drop {name}"
        )
    scheme = "smtps" if mode is TLS.IMPLICIT else "smtp"
    if "MAIL_URL" in given and not str(given["MAIL_URL"]).startswith(f"{scheme}://"):
        raise OptionError(f"{name} and MAIL_URL contradict each other: drop {name}")
    return mode


def _credential(name: str, value: object) -> object:
    """A text. ``from_prefixed_env`` has made a number of one that looked like it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (float, bool, list, dict)):
        raise OptionError(
            f"{name} is a {type(value).__name__}, not a text: in the environment,"
            " put double quotes round the value, inside the shell's own"
        )
    return value


def _sender(value: Any) -> str | tuple[str, str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        value = tuple(value)
    try:
        headers.parse_mailbox(value)
    except ValueError as exc:
        raise OptionError(
            f"MAIL_DEFAULT_SENDER: {exc}; give 'a@example.org' or ('Name', 'a@example.org')"
        ) from exc
    return value if isinstance(value, tuple) else str(value)


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or isinstance(value, (bool, float)):
        raise OptionError(f"{name} is {value!r}: set a number of messages, or None for no limit")
    return number or None


def _on_refused(value: object) -> OnRefused:
    try:
        return OnRefused.parse(str(value))
    except OptionError as exc:
        raise OptionError(str(exc).replace("on_refused", "MAIL_ON_REFUSED")) from exc


def _on_report(value: object) -> tuple[Observer, ...]:
    try:
        return observers(value)
    except OptionError as exc:
        raise OptionError(str(exc).replace("on_report", "MAIL_ON_REPORT", 1)) from exc


def _check_names(given: Mapping[str, Any]) -> None:
    """Refuse a name that is a slip of the pen for one of ours.

    Only one or two letters off: the prefix is shared with applications and other extensions,
    whose names (MAIL_BACKEND, MAIL_SUBJECT_PREFIX) are none of our business.
    """
    for name in given:
        if name in KNOWN:
            continue
        instead = ELSEWHERE.get(name)
        if instead is not None:
            if instead in given or "MAIL_URL" in given or "MAIL_TLS" in given:
                continue
            if name != "MAIL_HOST" and str(given[name]).lower() in ("false", "0"):
                continue
            raise OptionError(f"{name} is not read here: set {instead}")
        if near := _near(name):
            raise OptionError(f"unknown setting {name}: did you mean {' or '.join(near)}?")


def _near(name: str) -> list[str]:
    distance = {known: _edits(name, known) for known in sorted(KNOWN)}
    allowed = 1 if len(name) < len("MAIL_PASSWORD") else 2
    best = min(allowed, *distance.values())
    return [known for known, edits in distance.items() if edits == best]


def _edits(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two words."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, rows[-2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def _in_our_names(text: str) -> str:
    """The core's error with its options named as they are in app.config."""
    settings = {option: name for name, option in RELAY_SETTINGS.items()}
    names = "|".join(sorted(settings, key=len, reverse=True))

    def renamed(match: re.Match[str]) -> str:
        option = match[1]
        if option is None or (option in _COMMON_WORDS and match.start() > 0):
            return match[0]
        return settings[option]

    text = text.replace("give the port as port, a URL as url", _AS_SETTINGS)
    ours = re.sub(rf"'[^']*'|\"[^\"]*\"|\b({names})\b(?!-)", renamed, text)
    return ours if "MAIL_" in ours else "; ".join(_suspects(text, settings)) + f": {ours}"


def in_our_names(advice: str) -> str:
    """The core's advice with its options named as they are in app.config."""
    for theirs, ours in _IN_ADVICE.items():
        advice = advice.replace(theirs, ours)
    names = "|".join(name for name in OPTION_NAMES if "_" in name)
    return re.sub(rf"(?<![\w.])({names})\b", lambda match: setting_of(match[1]), advice)


def _suspects(text: str, settings: Mapping[str, str]) -> Iterator[str]:
    found = [name for option, name in settings.items() if re.search(rf"\b{option}\b", text)]
    yield from found or ["MAIL_*"]
