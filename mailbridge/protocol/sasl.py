"""SASL mechanisms as generators: challenges in, responses out (RFC 4954, RFC 4422).

An exchange yields its initial response, or None if the server speaks first; each challenge is
sent in, each response comes out. When the server reports success, the exchange is resumed with
None: one that has not seen what it must see raises then. Who returns has nothing more to say.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator, Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from ..errors import InvalidInput, printable
from ..secret import Hidden, Secret
from .channel import Channel

Exchange: TypeAlias = Generator[bytes | None, bytes | None, None]

#: Best first: bound to the channel, then the longer digest. Others than SCRAM come behind them.
SCRAM = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1")


class Credentials:
    """Who logs in: with a password, a bearer token, or what TLS has shown. Its repr hides all."""

    # By hand: a dataclass, or a NamedTuple, takes longer to make than a login.
    __slots__ = ("password", "token", "username")

    def __init__(
        self, username: str, password: Secret | None = None, token: Secret | None = None
    ) -> None:
        self.username = username
        self.password = password
        self.token = token
        # RFC 4616 section 2: a NUL would forge the fields of PLAIN.
        if "\0" in self.username or (self.password and "\0" in self.password.reveal()):
            raise InvalidInput("user name and password must not contain a NUL character")
        if self.token is None:
            return
        # RFC 7628 section 3.1: %x01 ends a field of the bearer mechanisms.
        if "\1" in self.username:
            raise InvalidInput("the user name contains a control character")
        if not (self.token.reveal().isascii() and self.token.reveal().isprintable()):
            raise InvalidInput("the token contains something other than printable ASCII")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(password={self.password!r}, token={self.token!r})"

    @property
    def secret(self) -> str:
        """The password or token; empty if there is neither."""
        held = self.password or self.token
        return "" if held is None else held.reveal()


@runtime_checkable
class Mechanism(Protocol):
    """A SASL mechanism, ours or your own: give it in `auth_mechanisms`.

    `name` is the server's for it, in upper case. `reveals_secret` is true if whoever listens
    learns the password or token; it is then used over verified TLS only.
    """

    @property
    def name(self) -> str:
        """As in the reply to EHLO."""
        ...

    @property
    def reveals_secret(self) -> bool:
        """Whether whoever listens learns what to log in with."""
        ...

    def start(self, credentials: Credentials, channel: Channel) -> Exchange:
        """A new exchange. See the module for what it yields."""
        ...


class Known:
    """A mechanism of our own. `needs` says what it logs in with.

    With `one_round`, AUTH with an initial response ends it: the server has nothing to ask.
    `reason` finds the server's in a challenge that says that it failed.
    """

    __slots__ = ("name", "needs", "one_round", "reason", "reveals_secret", "run")

    def __init__(
        self,
        name: str,
        run: Callable[[Credentials, Channel], Exchange],
        needs: Literal["password", "token", "certificate"] = "password",
        *,
        reveals_secret: bool = False,
        one_round: bool = False,
        reason: Callable[[bytes], str | None] = lambda challenge: None,
    ) -> None:
        self.name = name
        self.run = run
        self.needs = needs
        self.reveals_secret = reveals_secret
        self.one_round = one_round
        self.reason = reason

    def start(self, credentials: Credentials, channel: Channel) -> Exchange:
        """A new exchange."""
        return self.run(credentials, channel)


def plain(credentials: Credentials, channel: Channel) -> Exchange:
    """PLAIN (RFC 4616): everything at once, in UTF-8."""
    yield Hidden(f"\0{credentials.username}\0{credentials.secret}".encode())


def login(credentials: Credentials, channel: Channel) -> Exchange:
    """LOGIN (draft-murchison-sasl-login): two prompts, whose text means nothing."""
    yield None
    yield Hidden(credentials.username.encode())
    yield Hidden(credentials.secret.encode())


def cram_md5(credentials: Credentials, channel: Channel) -> Exchange:
    """CRAM-MD5 (RFC 2195): a keyed digest of the server's challenge."""
    challenge = yield None
    secret = Secret(credentials.secret)
    yield Hidden(cram_md5_response(credentials.username, secret, challenge or b"").encode())


def cram_md5_response(username: str, password: Secret, challenge: bytes) -> str:
    """The answer to a CRAM-MD5 challenge."""
    digest = hmac.new(password.reveal().encode(), challenge, "md5").hexdigest()
    return f"{username} {digest}"


def xoauth2(credentials: Credentials, channel: Channel) -> Exchange:
    """XOAUTH2: the bearer token of Google and Microsoft."""
    yield Hidden(f"user={credentials.username}\1auth=Bearer {credentials.secret}\1\1".encode())
    # The challenge is an error in JSON; the server waits for an empty line, then says 535.
    yield b""


def escaped(username: str) -> str:
    """A user name as SCRAM and OAUTHBEARER write it (RFC 5801 section 4)."""
    return username.replace("=", "=3D").replace(",", "=2C")


def oauthbearer(credentials: Credentials, channel: Channel) -> Exchange:
    """OAUTHBEARER (RFC 7628)."""
    user = escaped(credentials.username)
    host = f"host={channel.host}\1port={channel.port}\1" if channel.host else ""
    yield Hidden(f"n,a={user},\1{host}auth=Bearer {credentials.secret}\1\1".encode())
    # RFC 7628 section 3.2.3: the dummy answer to an error, after which the server says 535.
    yield b"\1"


def external(credentials: Credentials, channel: Channel) -> Exchange:
    """EXTERNAL (RFC 4422 appendix A): the client certificate says who; an empty name is its own."""
    yield Hidden(credentials.username.encode())


def _scram(name: str) -> Callable[[Credentials, Channel], Exchange]:
    def run(credentials: Credentials, channel: Channel) -> Exchange:
        from . import scram  # Imported here: not every server offers it.

        secret = Secret(credentials.secret)
        return scram.exchange(name, credentials.username, secret, channel)

    return run


def scram_error(challenge: bytes) -> str | None:
    """The reason that a server gives in a SCRAM exchange."""
    from . import scram

    return scram.reason(challenge)


def bearer_error(challenge: bytes) -> str | None:
    """The status and scope of an error that a bearer mechanism was answered with."""
    import json  # Imported here: it is for a refusal.

    try:
        error = json.loads(challenge)
    except ValueError:
        return None
    if not isinstance(error, dict):
        return None
    named = [f"{name} {error[name]}" for name in ("status", "scope") if error.get(name)]
    return printable(", ".join(named)[:200].encode()) or None


def _has_md5() -> bool:
    # A FIPS build of OpenSSL refuses MD5; the mechanism is then not to be had.
    try:
        hashlib.md5(b"")
    except ValueError:
        return False
    return True


# Best first where nobody can listen. SCRAM proves the server too, and with -PLUS (RFC 5802) that
# it is the server at this end of TLS. CRAM-MD5 authenticates the client only and makes the server
# keep the password in the clear (RFC 4954 section 4).
_IN_ORDER = (
    *(Known(name, _scram(name), reason=scram_error) for name in SCRAM),
    Known("OAUTHBEARER", oauthbearer, "token", reveals_secret=True, reason=bearer_error),
    Known("XOAUTH2", xoauth2, "token", reveals_secret=True, reason=bearer_error),
    Known("PLAIN", plain, reveals_secret=True, one_round=True),
    Known("LOGIN", login, reveals_secret=True),
    Known("CRAM-MD5", cram_md5),
    Known("EXTERNAL", external, "certificate", one_round=True),
)
MECHANISMS = {mechanism.name: mechanism for mechanism in _IN_ORDER}


def ranked(
    offered: Sequence[str],
    credentials: Credentials,
    channel: Channel,
    *,
    confidential: bool,
    allowed: Sequence[str | Mechanism] | None = None,
) -> list[Mechanism]:
    """The offered mechanisms that these credentials fit, best first for this connection.

    `allowed` names them in the caller's own order instead; EXTERNAL is used only if it does.
    Where somebody may listen, those that keep the secret off the wire come first.
    """
    usable: list[Mechanism] = []
    for item in MECHANISMS.values() if allowed is None else allowed:
        mechanism = MECHANISMS[item] if isinstance(item, str) else item
        if mechanism.name not in offered:
            continue
        if isinstance(mechanism, Known) and not _fits(
            mechanism, credentials, channel, chosen=allowed is not None
        ):
            continue
        usable.append(mechanism)
    if allowed is None and not confidential:
        usable.sort(key=lambda mechanism: mechanism.reveals_secret)
    return usable


def _fits(mechanism: Known, credentials: Credentials, channel: Channel, *, chosen: bool) -> bool:
    if mechanism.needs == "certificate":
        # A certificate that TLS shows anyway is no wish to log in by it.
        return chosen
    if mechanism.needs == "token":
        return credentials.token is not None
    if credentials.password is None:
        return False
    if mechanism.name.endswith("-PLUS"):
        return channel.binding is not None
    return mechanism.name != "CRAM-MD5" or _has_md5()
