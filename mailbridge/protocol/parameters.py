"""What a mail asks for, against what the server offers. Nothing is asked that it cannot do."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from ..errors import NotSupported
from .extension import Extensions

if TYPE_CHECKING:
    from ..esmtp import DeliverBy, Esmtp

_NUMBER = re.compile(r"[0-9]{1,9}")
# The field of Esmtp, and the keyword of the extension that it takes.
_KEYWORDS = (
    ("dsn", "DSN"),
    ("deliver_by", "DELIVERBY"),
    ("mt_priority", "MT-PRIORITY"),
    ("hold_for", "FUTURERELEASE"),
    ("hold_until", "FUTURERELEASE"),
)


def check_offered(esmtp: Esmtp, extensions: Extensions) -> None:
    """Raise NotSupported for what the server does not offer, or not to that extent."""
    for name, keyword in _KEYWORDS:
        if getattr(esmtp, name) is not None and not extensions.offers(keyword):
            raise _not_supported(
                f"{name} needs the extension {keyword}, which the server does not offer",
                f"Leave {name} out of the mail's esmtp, or send through a server that offers it",
            )
    if esmtp.deliver_by is not None:
        _check_deliver_by(cast("DeliverBy", esmtp.deliver_by), extensions["deliverby"])
    if esmtp.hold_for is not None or esmtp.hold_until is not None:
        _check_hold(esmtp, extensions["futurerelease"])


def _check_deliver_by(wanted: DeliverBy, offered: str) -> None:
    # RFC 2852 section 4: the least time that the server takes for "return or deliver".
    least = int(offered) if _NUMBER.fullmatch(offered) else 0
    if wanted.late == "return" and isinstance(wanted.seconds, int) and wanted.seconds < least:
        raise _not_supported(
            f"deliver_by is {wanted.seconds} s, and the server's DELIVERBY takes no less than"
            f" {least} s",
            f"Give {least} s or more, or late='notify'",
        )


def _check_hold(esmtp: Esmtp, offered: str) -> None:
    # RFC 4865 section 4: the longest interval in seconds, and the latest moment.
    interval, _, latest = offered.partition(" ")
    most = int(interval) if _NUMBER.fullmatch(interval) else None
    if isinstance(esmtp.hold_for, int) and most is not None and esmtp.hold_for > most:
        raise _not_supported(
            f"hold_for is {esmtp.hold_for} s, and the server's FUTURERELEASE holds for {most} s"
            " at most",
            f"Give {most} s or less, or send the mail later",
        )
    end = _moment(latest.strip())
    if esmtp.hold_until is not None and end is not None and esmtp.hold_until > end:
        raise _not_supported(
            f"hold_until is {esmtp.hold_until:%Y-%m-%dT%H:%M:%SZ}, and the server's FUTURERELEASE"
            f" holds until {latest.strip()} at most",
            "Give an earlier moment, or send the mail later",
        )


def _moment(text: str) -> datetime | None:
    """A date and time of RFC 3339, None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _not_supported(what: str, advice: str) -> NotSupported:
    error = NotSupported(what)
    error.advice = advice
    error.phase = "mail"
    return error
