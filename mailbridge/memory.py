"""What this process remembers of the relays that it has met."""

from __future__ import annotations

import logging

from .errors import TLSError
from .logins import forget_logins
from .options import Relay
from .report import Phase
from .tls import forget_sessions

logger = logging.getLogger("mailbridge")

# Addresses, each a short text: those of a process that makes up relays must not pile up for ever.
MAX_ADDRESSES = 4096
# Dictionaries for their order; each operation on them is one that no thread interrupts.
_offered_starttls: dict[str, None] = {}
_warned: dict[str, None] = {}


def _note(known: dict[str, None], address: str) -> bool:
    """Remember an address. True if it was known."""
    if address in known:
        return True
    known[address] = None
    for oldest in list(known)[:-MAX_ADDRESSES]:
        known.pop(oldest, None)
    return False


def note_starttls(relay: Relay, *, offered: bool) -> None:
    """Take in whether the relay offers STARTTLS.

    Raises TLSError where it does not, and did before: somebody may have taken it out of the reply
    to EHLO (RFC 3207 section 6).
    """
    if offered:
        _note(_offered_starttls, relay.address)
    elif relay.address in _offered_starttls and "STARTTLS" not in relay.ignore_extensions:
        error = TLSError("the server offered STARTTLS before, and now it does not")
        error.phase = Phase.TLS
        error.advice = (
            "Somebody on the way may have removed it. If the server was changed, set tls='none',"
            " restart, or call mailbridge.forget_relays()"
        )
        raise error


def warn_of_unverified(relay: Relay) -> None:
    """Log, once for each relay, that its certificate is not looked at."""
    if not relay.tls_verify and not _note(_warned, relay.address):
        logger.warning(
            "%s: the certificate is not verified (tls_verify=False): whoever is between here and"
            " there can read every mail. Set ca_file, or fingerprint, instead",
            relay.address,
        )


def forget_relays() -> None:
    """Forget what this process has learned of its relays.

    That is: refused logins, tokens, TLS sessions, and who has offered STARTTLS.
    """
    from .tokens import forget_tokens  # Imported here: few log in by tokens.

    forget_logins()
    forget_tokens()
    forget_sessions()
    _offered_starttls.clear()
    _warned.clear()
