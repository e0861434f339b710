"""Logins of the whole process: one at a time until one was accepted, and none after a 535.

A wrong password in a thousand threads is one failed login, not a thousand, nor a locked account.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from . import forks
from .errors import AuthenticationFailed, Disconnected
from .options import Relay
from .protocol import auth
from .protocol.sasl import Credentials, Mechanism
from .protocol.session import Dialogue, Session
from .registry import Registry
from .secret import Secret

if TYPE_CHECKING:

    class Terms(TypedDict):
        """What a relay says of how to log in."""

        confidential: bool
        allow_insecure: bool
        mechanisms: tuple[str | Mechanism, ...] | None


# Far more than an application has; the oldest is forgotten first.
MAX_DOORS = 1024
# These speak of the command, the mechanism or the connection, not of the credentials.
_NOT_OF_CREDENTIALS = {*range(500, 505), 530, 534, 538}


class Refusal(NamedTuple):
    """What a login was refused by, and when: on the monotonic clock, and on that on the wall."""

    error: AuthenticationFailed
    at: float
    on: datetime


class Door:
    """The logins with one credential at one relay."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._under_way = False
        # Made by the first who waits: mostly nobody does.
        self._end: Future[None] | None = None
        self._accepted = False
        #: True once the server did not take AUTH and MAIL in one write.
        self.alone = False
        self._refused: Refusal | None = None
        forks.watch(self)

    def check(self, pause: float, host: str) -> None:
        """Raise AuthenticationFailed if a refusal of less than `pause` seconds ago is known."""
        known = self._refused
        if known is None or monotonic() >= known.at + pause:
            return
        refused, _, on = known
        error = AuthenticationFailed(refused.smtp_code, refused.smtp_error, reply=refused.reply)
        error.remembered_at = on
        until = on + timedelta(seconds=pause)
        error.advice = (
            f"The server was not asked: it refused this login at {on:%H:%M:%S} UTC,"
            f" and is not asked again before {until:%H:%M:%S}, so that no account is locked."
            " Change the credentials, or call mailbridge.forget_relays(), to try at once"
        )
        error.located(host=host, phase="auth")
        raise error

    def enter(self, pause: float, host: str) -> tuple[Future[None] | None, bool]:
        """(wait for this and ask again, False), or (None, what to hand to `leave`).

        Raises AuthenticationFailed for a refusal that is known.
        """
        with self.lock:
            self.check(pause, host)
            if self._accepted:
                return None, False
            if not self._under_way:
                self._under_way = True
                return None, True
            if self._end is None:
                self._end = Future()
                self._end.set_running_or_notify_cancel()
            return self._end, False

    def leave(self, turn: bool) -> None:
        """Let others in. `turn` is what `enter` gave."""
        if turn:
            with self.lock:
                end, self._end, self._under_way = self._end, None, False
            if end is not None:
                end.set_result(None)

    def accept(self) -> None:
        """The server took the credentials: from now on logins need not wait for each other."""
        with self.lock:
            self._accepted, self._refused = True, None

    def refuse(self, error: AuthenticationFailed) -> None:
        """Remember a refusal of the credentials."""
        with self.lock:
            self._accepted = False
            self._refused = Refusal(error.with_traceback(None), monotonic(), datetime.now(UTC))

    def after_fork(self) -> None:
        """In a forked child: nobody is at the door. What is known stays."""
        self.lock, self._end, self._under_way = threading.Lock(), None, False


def log_in(session: Session, relay: Relay) -> Dialogue[None]:
    """AUTH as the relay says, if it has somebody to log in as; a refusal is remembered.

    Raises NotSupported, AuthenticationFailed, or MailError if no mechanism is common.
    """
    if relay.logs_in:
        auth.require_offer(session)
        door, turn = yield from _enter(relay)
        yield from _at_door(door, turn, _log_in(session, relay))


def begin(session: Session, relay: Relay) -> Dialogue[None]:
    """Like `log_in`, but the reply is left to be heard with those to a mail, where that may be.

    RFC 4954 section 4 allows it for a mechanism that is over in one round. `session.login` then
    is the dialogue that hears the reply; others who log in wait for its end, or its `close()`.
    """
    if not relay.logs_in:
        return
    auth.require_offer(session)
    door, turn = yield from _enter(relay)
    try:
        login = None if door.alone else _of_one_round(session, relay)
    except BaseException:
        door.leave(turn)
        raise
    if login is None:
        yield from _at_door(door, turn, _log_in(session, relay))
        return
    rest = _at_door(door, turn, _with_a_mail(session, login, door))
    next(rest)
    session.login = rest


def _enter(relay: Relay) -> Dialogue[tuple[Door, bool]]:
    """Wait until it is our turn to log in. Raises AuthenticationFailed if a refusal is known."""
    door = _doors[_key(relay)]
    while True:
        wait, turn = door.enter(relay.auth_pause, relay.address)
        if wait is None:
            return door, turn
        from .tokens import Wait

        yield Wait(wait)


def _at_door(door: Door, turn: bool, login: Dialogue[None]) -> Dialogue[None]:
    """A login with what it means for others who have the same credentials."""
    try:
        yield from login
    except AuthenticationFailed as error:
        if _is_final(error):
            refused = AuthenticationFailed(error.smtp_code, error.smtp_error, reply=error.reply)
            door.refuse(refused)
        raise
    else:
        door.accept()
    finally:
        door.leave(turn)


def _of_one_round(session: Session, relay: Relay) -> auth.Login | None:
    """The login, if a mail may follow AUTH in the same write, and can do so without DATA."""
    if relay.token_provider is not None or not (session.pipelining and session.chunking):
        return None
    login = auth.Login(session, _by_password(relay), **_terms(session, relay))
    return login if login.one_round else None


def _with_a_mail(session: Session, login: auth.Login, door: Door) -> Dialogue[None]:
    login.begin()
    door.alone = True  # until it turns out that it works
    reply = yield from session.reply()
    if not (reply.code in (235, 535) or reply.transient):
        # It asks for more, or knows another mechanism; but what it heard next was a mail.
        session.abandon("AUTH was not over in one round")
        raise Disconnected(f"AUTH was not over in one round: {reply}")
    door.alone = False
    yield from login.finish(reply)


def _log_in(session: Session, relay: Relay) -> Dialogue[None]:
    if relay.token_provider is None:
        yield from _once(session, relay, _by_password(relay))
        return
    # Imported here: most log in with a password.
    from .tokens import token

    if not callable(relay.token_provider):
        raise TypeError("token_provider is not resolved")
    held = yield from token(relay.token_provider)
    try:
        yield from _once(session, relay, Credentials(relay.username or "", token=held))
    except AuthenticationFailed as refused:
        if not _is_final(refused) or not session.usable:
            raise
        fresh = yield from token(relay.token_provider, rejected=held)
        if fresh == held:
            raise
        yield from _once(session, relay, Credentials(relay.username or "", token=fresh))


def _once(session: Session, relay: Relay, credentials: Credentials) -> Dialogue[None]:
    yield from auth.login(session, credentials, **_terms(session, relay))


def _by_password(relay: Relay) -> Credentials:
    password = None if relay.password is None else Secret(relay.password)
    return Credentials(relay.username or "", password)


def _terms(session: Session, relay: Relay) -> Terms:
    return {
        "confidential": session.channel.verified or relay.is_loopback,
        "allow_insecure": relay.allow_insecure_auth,
        "mechanisms": relay.mechanisms,
    }


def _is_final(error: AuthenticationFailed) -> bool:
    return 500 <= error.smtp_code < 600 and error.smtp_code not in _NOT_OF_CREDENTIALS


_doors: Registry[tuple[Any, ...], Door] = Registry(Door, MAX_DOORS)


def _key(relay: Relay) -> tuple[Any, ...]:
    # Whatever of it changes, the login is another one.
    shown = (relay.certfile, relay.keyfile, relay.ssl_context, relay.auth_mechanisms)
    return relay.address, relay.username, relay.password, relay.token_provider, *shown


def check(relay: Relay) -> None:
    """Raise AuthenticationFailed if these credentials were refused a short while ago."""
    if relay.logs_in:
        _doors[_key(relay)].check(relay.auth_pause, relay.address)


def forget_logins(relay: Relay | None = None) -> None:
    """Forget what is known of this relay's login, or of all."""
    _doors.forget(None if relay is None else _key(relay))
