"""What a mail asks of the server: notifications (DSN), a time limit, a priority, a later release.

Each is an extension that a server may offer or not; values are checked here, before anything is
sent, and against what the server offers in `protocol.parameters`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from .envelope import Address
from .errors import OptionError

T = TypeVar("T")

# RFC 3461 sections 4.2 and 4.4: characters in the values of ORCPT and ENVID. They lengthen the
# command line by no more than the limit of a line allows for them.
MAX_ORCPT = 500
MAX_ENVID = 100
# RFC 2852 section 4 and RFC 4865 section 4: nine digits of seconds.
MAX_SECONDS = 999_999_999

_NOTIFY = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
_RET = ("FULL", "HDRS")
_TYPED = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*;.+", re.DOTALL)
_PRINTABLE = re.compile(r"[ -~]+")
# RFC 6533 section 3: what stands for itself in the 7-bit form of an address of type utf-8.
_NOT_QCHAR = re.compile(r"[^\x21-\x2a\x2c-\x3c\x3e-\x5b\x5d-\x7e]")

#: One kind of notification or several: "never", or any of "success", "failure" and "delay".
Notify = str | Iterable[str]


def xtext(text: str) -> str:
    """`text` as xtext (RFC 3461 section 4). Raises OptionError outside printable ASCII."""
    if not _PRINTABLE.fullmatch(text):
        raise OptionError(f"{text[:200]!a} is not one or more printable ASCII characters")
    return re.sub(r"[^!-~]|[+=]", lambda char: f"+{ord(char[0]):02X}", text)


@dataclass(frozen=True, slots=True)
class DSN:
    """Which notifications to send, and what is to be in them (RFC 3461).

    `notify` is "never", or one or several of "success", "failure" and "delay"; left out, the
    server decides, which mostly means failure and delay. `notify_each` says otherwise for some
    recipients: a mapping of address to the same words. `ret` is "full" for the whole message in
    a notification of failure, "hdrs" for its header alone. `envid` is a name for the mail that
    every notification repeats. `orcpt` True repeats each recipient's address, too; a mapping of
    recipients to what they were before is for gateways. Raises OptionError (a ValueError).
    """

    notify: Notify | None = None
    ret: str | None = None
    envid: str | None = None
    orcpt: bool | Mapping[str, str] | None = None
    notify_each: Mapping[str, Notify] | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        if self.notify is not None:
            put(self, "notify", _notify(self.notify))
        if self.ret is not None:
            put(self, "ret", _one_of("ret", self.ret, _RET))
        if self.envid is not None:
            _check_envid(self.envid)
        if self.orcpt is not None and not isinstance(self.orcpt, bool):
            put(self, "orcpt", _each("orcpt", self.orcpt, _original))
        if self.notify_each is not None:
            put(self, "notify_each", _each("notify_each", self.notify_each, _notify))

    def mail_parameters(self) -> tuple[str, ...]:
        """RET and ENVID, for MAIL."""
        ret = () if self.ret is None else (f"RET={self.ret}",)
        return ret if self.envid is None else (*ret, f"ENVID={xtext(self.envid)}")

    def rcpt_parameters(self, address: Address) -> tuple[str, ...]:
        """NOTIFY and ORCPT, for RCPT with this address."""
        notify = _known(self.notify_each).get(address, self.notify)
        parameters = () if notify is None else (f"NOTIFY={','.join(notify)}",)
        if isinstance(self.orcpt, bool) or self.orcpt is None:
            original = _original(address.text) if self.orcpt else None
        else:
            original = _known(self.orcpt).get(address)
        return parameters if original is None else (*parameters, f"ORCPT={original}")

    @property
    def addresses(self) -> set[Address]:
        """The recipients that something is said of by name."""
        orcpt = None if isinstance(self.orcpt, bool) else self.orcpt
        return {*_known(self.notify_each), *_known(orcpt)}


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """Deliver within so many `seconds`, a number or a timedelta, or else act (RFC 2852).

    `late` is "return" (give the mail up and say so) or "notify" (say so, and go on). With
    `trace` every relay on the way reports. Raises OptionError (a ValueError).
    """

    seconds: int | timedelta
    late: str = "return"
    trace: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "late", _one_of("late", self.late, ("RETURN", "NOTIFY")).lower())
        object.__setattr__(self, "seconds", _seconds("deliver_by", self.seconds))

    def __str__(self) -> str:
        return f"{self.seconds};{self.late[0].upper()}{'T' if self.trace else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Esmtp:
    """What to ask of the server for a mail, by extensions that it must offer for that.

    `dsn`: a DSN, or a mapping of its arguments. `deliver_by`: seconds, or a DeliverBy.
    `mt_priority`: -9 to 9, normal is 0 (RFC 6710). `hold_for` seconds or a timedelta, or
    `hold_until` a datetime with time zone: the server keeps the mail so long (RFC 4865).
    Raises OptionError (a ValueError).
    """

    dsn: DSN | Mapping[str, Any] | None = None
    deliver_by: DeliverBy | int | timedelta | None = None
    mt_priority: int | None = None
    hold_for: int | timedelta | None = None
    hold_until: datetime | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__
        if self.dsn is not None and not isinstance(self.dsn, DSN):
            put(self, "dsn", _made_of(DSN, "dsn", self.dsn))
        if self.deliver_by is not None and not isinstance(self.deliver_by, DeliverBy):
            put(self, "deliver_by", DeliverBy(self.deliver_by))
        if self.mt_priority is not None:
            put(self, "mt_priority", _priority(self.mt_priority))
        if self.hold_for is not None:
            put(self, "hold_for", _seconds("hold_for", self.hold_for))
        if self.hold_until is not None:
            put(self, "hold_until", _moment(self.hold_until))
            if self.hold_for is not None:
                raise OptionError("hold_for and hold_until are two ways to say one thing: drop one")

    @classmethod
    def of(cls, value: Esmtp | Mapping[str, Any]) -> Esmtp:
        """`value` itself, or an Esmtp of a mapping of its arguments. Raises OptionError."""
        return value if isinstance(value, Esmtp) else _made_of(cls, "esmtp", value)

    def over(self, default: Esmtp) -> Self:
        """This, with what it leaves open taken from `default`."""
        changes = _missing(self, default)
        if isinstance(self.dsn, DSN) and isinstance(default.dsn, DSN):
            changes["dsn"] = replace(self.dsn, **_missing(self.dsn, default.dsn))
        if self.hold_for is not None or self.hold_until is not None:
            changes = {name: v for name, v in changes.items() if not name.startswith("hold_")}
        return replace(self, **changes)

    def mail_parameters(self) -> tuple[str, ...]:
        """The parameters of MAIL, ready for its line: ``RET=HDRS``, ``MT-PRIORITY=3``, ..."""
        parameters = list(self.dsn.mail_parameters()) if isinstance(self.dsn, DSN) else []
        if self.deliver_by is not None:
            parameters.append(f"BY={self.deliver_by}")
        if self.mt_priority is not None:
            parameters.append(f"MT-PRIORITY={self.mt_priority}")
        if self.hold_for is not None:
            parameters.append(f"HOLDFOR={self.hold_for}")
        if self.hold_until is not None:
            parameters.append(f"HOLDUNTIL={self.hold_until:%Y-%m-%dT%H:%M:%SZ}")
        return tuple(parameters)

    def rcpt_parameters(self, address: Address | str) -> tuple[str, ...]:
        """The parameters of RCPT for this recipient: ``NOTIFY=FAILURE,DELAY``, ``ORCPT=...``."""
        if not isinstance(self.dsn, DSN):
            return ()
        return self.dsn.rcpt_parameters(Address.parse(address))

    def check_recipients(self, recipients: Iterable[Address]) -> None:
        """Raise OptionError if a recipient is named here that is not among `recipients`."""
        if isinstance(self.dsn, DSN) and (others := self.dsn.addresses.difference(recipients)):
            name = min(map(str, others))
            raise OptionError(f"the dsn names {name!r}, which is no recipient of this mail")


def _made_of(cls: type[T], name: str, value: object) -> T:
    """`cls` of a mapping of its arguments, as settings have it."""
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    if not isinstance(value, Mapping):
        kind = type(value).__name__
        raise OptionError(f"{name} must be {cls.__name__}(...) or a mapping, not {kind}")
    unknown = [key for key in value if key not in known]
    if unknown:
        raise OptionError(f"{name} has no {unknown[0]!r}; it has {', '.join(known)}")
    return cls(**value)


def _missing(value: Any, default: Any) -> dict[str, Any]:
    names = [item.name for item in fields(value)]
    return {name: getattr(default, name) for name in names if getattr(value, name) is None}


def _each(name: str, given: Any, check: Any) -> tuple[tuple[Address, Any], ...]:
    """Pairs of address and checked value: hashable, unlike a mapping."""
    try:
        pairs = dict(given).items()
    except (TypeError, ValueError):
        raise OptionError(f"{name} must map addresses, not {type(given).__name__}") from None
    return tuple((Address.parse(address), check(value)) for address, value in pairs)


def _known(pairs: Any) -> dict[Address, Any]:
    """What `_each` made, to be looked up."""
    return dict(pairs or ())


def _one_of(name: str, value: object, words: tuple[str, ...]) -> str:
    word = value.upper() if isinstance(value, str) else value
    if word not in words:
        allowed = " or ".join(repr(word.lower()) for word in words)
        raise OptionError(f"{name} is {value!a}, and must be {allowed}")
    return str(word)


def _notify(value: Any) -> tuple[str, ...]:
    given = value.replace(",", " ").split() if isinstance(value, str) else value
    words = {_one_of("notify", word, _NOTIFY) for word in given}
    if not words or ("NEVER" in words and len(words) > 1):
        # RFC 3461 section 4.1: NEVER stands alone.
        raise OptionError("notify is 'never', or some of 'success', 'failure' and 'delay'")
    return tuple(word for word in _NOTIFY if word in words)


def _check_envid(envid: object) -> None:
    if not isinstance(envid, str):
        raise OptionError(f"envid must be a text, not {type(envid).__name__}")
    try:
        encoded = xtext(envid)
    except OptionError as exc:
        raise OptionError(f"envid: {exc}") from None
    if len(encoded) > MAX_ENVID:
        raise OptionError(
            f"envid is {len(encoded)} characters long as it is sent; {MAX_ENVID} are allowed"
        )


def _original(recipient: object) -> str:
    """The value of ORCPT: the type of address, and the address (RFC 3461 4.2, RFC 6533 3)."""
    if not isinstance(recipient, str):
        raise OptionError(f"orcpt must be an address, not {type(recipient).__name__}")
    if _TYPED.fullmatch(recipient) and "@" not in recipient.partition(";")[0]:
        kind, _, address = recipient.partition(";")
        original = f"{kind};{xtext(address)}"
    else:
        parsed = Address.parse(recipient)
        path = parsed.path(smtputf8=True).decode()
        original = f"utf-8;{_utf8(path)}" if parsed.needs_smtputf8 else f"rfc822;{xtext(path)}"
    if len(original) > MAX_ORCPT:
        raise OptionError(f"orcpt for {recipient[:100]!a}... is over {MAX_ORCPT} characters")
    return original


def _utf8(path: str) -> str:
    """The 7-bit form, which a server takes whether it offers SMTPUTF8 or not."""
    return _NOT_QCHAR.sub(lambda char: f"\\x{{{ord(char[0]):02X}}}", path)


def _seconds(name: str, value: object) -> int:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_SECONDS:
        raise OptionError(f"{name} is {value!r}: give whole seconds from 1 to {MAX_SECONDS}")
    return value


def _priority(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -9 <= value <= 9:
        raise OptionError(f"mt_priority is {value!r}: give a whole number from -9 to 9")
    return value


def _moment(value: object) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise OptionError(f"hold_until is {value!r}: give a datetime with a time zone")
    return value.astimezone(UTC)
