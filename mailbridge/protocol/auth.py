"""Logging in: the AUTH exchange, and which mechanism is tried (RFC 4954)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

from ..errors import AuthenticationFailed, MailError, NotSupported, ProtocolViolation
from ..report import Phase
from ..secret import Hidden
from . import sasl
from .command import Auth, AuthCancel, AuthResponse
from .reply import Reply
from .sasl import Credentials, Mechanism
from .session import Dialogue, Session

# A server that goes on asking is broken or hostile; no mechanism here needs more than three.
MAX_CHALLENGES = 5
Respond = Callable[[bytes], bytes]


def authenticate(
    session: Session,
    mechanism: str,
    initial_response: bytes | None,
    respond: Respond,
    *,
    max_line: int = 512,
) -> Dialogue[Reply]:
    """One AUTH exchange (RFC 4954 section 4). Returns the last reply, whatever it is.

    `respond` turns a challenge into a response; what it raises cancels the exchange first.
    """
    withheld = _begin(session, mechanism, initial_response, max_line)
    reply = yield from session.reply()
    return (yield from _go_on(session, reply, withheld, respond))


def _begin(
    session: Session, mechanism: str, initial_response: bytes | None, max_line: int = 512
) -> Hidden | None:
    """Send AUTH. Returns the initial response if that is too long to go with it."""
    if initial_response is None:
        session.send(Auth(mechanism))
        return None
    response = Hidden(initial_response)
    session.guard(base64.b64encode(response))
    command = Auth(mechanism, response)
    if len(command.wire) > max_line:
        # RFC 4954 section 4: no initial response beyond the limit of a command line.
        session.send(Auth(mechanism))
        return response
    session.send(command)
    return None


def _go_on(
    session: Session, reply: Reply, withheld: Hidden | None, respond: Respond
) -> Dialogue[Reply]:
    """Answer challenges until the server has none. Returns the last reply."""
    challenges = 0
    while reply.code == 334:
        challenges += 1
        if challenges > MAX_CHALLENGES:
            session.abandon("AUTH did not end")
            raise MailError(f"Server AUTH mechanism infinite loop: {challenges} challenges")
        try:
            if withheld is not None:
                response, withheld = withheld, None
            else:
                response = Hidden(respond(Hidden(_challenge(reply))))
        except Exception as exc:
            # RFC 4954 section 4: the server answers "*" with 501, and stays in step.
            yield from session.command(AuthCancel())
            if isinstance(exc, ProtocolViolation):
                session.abandon("AUTH was cancelled")
            raise
        except BaseException:
            # No time for "*"; the server would take the next command for the answer.
            session.abandon("AUTH was interrupted")
            raise
        session.guard(base64.b64encode(response))
        reply = yield from session.command(AuthResponse(response))
    return reply


def _challenge(reply: Reply) -> bytes:
    try:
        return base64.b64decode(reply.message, validate=True)
    except binascii.Error:
        # RFC 4954 section 4: what is not base64 must be rejected.
        raise ProtocolViolation("AUTH: the server's challenge is not base64", 334) from None


class Login:
    """A login under way: `begin` sends AUTH, `finish` judges the reply and goes on from there.

    The reply is read in between by whoever pairs replies. Only where `one_round` is true may
    other commands follow AUTH in the same write (RFC 4954 section 4).

    A 535 ends it: the credentials are wrong, and trying them again locks accounts. A 534 or 504
    speaks of the mechanism only, so the next one is tried (RFC 4954 section 6). `confidential`
    says whether nobody can listen; if somebody can, mechanisms that reveal the secret are
    used only with `allow_insecure`. `mechanisms` names those allowed, in order. `initial` false
    withholds the initial response.
    Raises NotSupported, or MailError if no mechanism is common; nothing is sent then.
    """

    def __init__(
        self,
        session: Session,
        credentials: Credentials,
        *,
        confidential: bool,
        allow_insecure: bool = True,
        mechanisms: Sequence[str | Mechanism] | None = None,
        initial: bool = True,
    ) -> None:
        require_offer(session)
        self._session = session
        self._credentials = credentials
        self._initial = initial
        offered = session.extensions.mechanisms
        self._channel = session.channel._replace(
            plus_offered=any(name in offered for name in sasl.SCRAM[:2])
        )
        ranked = sasl.ranked(
            offered, credentials, self._channel, confidential=confidential, allowed=mechanisms
        )
        if not ranked:
            raise _no_common(offered, mechanisms)
        if not (confidential or allow_insecure):
            ranked = [mechanism for mechanism in ranked if not mechanism.reveals_secret]
            if not ranked:
                raise _insecure()
        self._left = iter(_installed(ranked))
        names = (credentials.username, sasl.escaped(credentials.username))
        session.guard(credentials.secret.encode(), names=names)
        self._next()

    def _next(self) -> bool:
        mechanism = next(self._left, None)
        if mechanism is None:
            return False
        self.mechanism: Mechanism = mechanism
        self._reason: str | None = None
        self._exchange = mechanism.start(self._credentials, self._channel)
        self._first = next(self._exchange)
        return True

    @property
    def one_round(self) -> bool:
        """True if AUTH with its initial response is all that will be said."""
        # Behind the "=" of an empty response, and within the line's limit.
        short = self._first is not None and len(self._first) < 360
        known = isinstance(self.mechanism, sasl.Known) and self.mechanism.one_round
        return known and short and self._initial

    def begin(self) -> None:
        """Send AUTH, with the initial response where that may be."""
        sent = self._first if self._initial else None
        if sent is not None:
            self._first = None
        self._withheld = _begin(self._session, self.mechanism.name, sent)

    def finish(self, reply: Reply) -> Dialogue[Reply]:
        """Judge the reply to AUTH, answer challenges, try the next mechanism where that helps.

        Returns the reply of success. Raises AuthenticationFailed, or ProtocolViolation for a
        server that is not who it should be.
        """
        while True:
            reply = yield from _go_on(self._session, reply, self._withheld, self._respond)
            # RFC 4954 section 4: 503 to a second AUTH says that the first one holds.
            if reply.code == 235 or (reply.code == 503 and self._session.authenticated):
                self._confirm()
                return reply
            self._exchange.close()
            if reply.code not in (504, 534) or not self._next():
                raise self._failed(reply)
            self.begin()
            reply = yield from self._session.reply()

    def _respond(self, challenge: bytes) -> bytes:
        if self._first is not None:
            # No initial response was sent: the first challenge is empty and asks for it.
            response, self._first = self._first, None
            return response
        if isinstance(self.mechanism, sasl.Known):
            self._reason = self.mechanism.reason(challenge) or self._reason
        try:
            return self._exchange.send(challenge) or b""
        except StopIteration:
            text = f"AUTH {self.mechanism.name}: one challenge too many"
            raise ProtocolViolation(text, 334) from None

    def _confirm(self) -> None:
        try:
            self._exchange.send(None)
        except StopIteration:
            return
        except BaseException:
            self._session.authenticated = False
            self._session.abandon("AUTH: the server is not who it should be")
            raise
        self._exchange.close()

    def _failed(self, reply: Reply) -> AuthenticationFailed:
        failed = AuthenticationFailed(reply.code, reply.message, reply=reply)
        hints = []
        if self._reason:
            reason = self._reason
            for masked in filter(None, (self._credentials.secret, self._credentials.username)):
                reason = reason.replace(masked, "***")
            hints.append(f"The server's reason: {reason}")
        if reply.code == 535 and self._credentials.token is not None:
            hints.append("Check user name and token: its scope, and whether it has expired")
        elif reply.code == 535:
            hints.append("Check user name and password")
        elif reply.code in (530, 538):
            hints.append("The server wants TLS first: set tls='starttls'")
        elif reply.code in (504, 534):
            hints.append("Choose another mechanism with auth_mechanisms")
        failed.advice = ". ".join(hints) or None
        return failed


def login(
    session: Session,
    credentials: Credentials,
    *,
    confidential: bool,
    allow_insecure: bool = True,
    mechanisms: Sequence[str | Mechanism] | None = None,
    initial: bool = True,
) -> Dialogue[Reply]:
    """Log in with the best mechanism that both sides know. See `Login` for the arguments.

    Raises NotSupported, AuthenticationFailed, or MailError if no mechanism is common.
    """
    pending = Login(
        session,
        credentials,
        confidential=confidential,
        allow_insecure=allow_insecure,
        mechanisms=mechanisms,
        initial=initial,
    )
    pending.begin()
    reply = yield from session.reply()
    return (yield from pending.finish(reply))


def _installed(ranked: list[Mechanism]) -> list[Mechanism]:
    """Without SCRAM where scramp is missing. Raises MailError if nothing else is left."""
    rest = [mechanism for mechanism in ranked if mechanism.name not in sasl.SCRAM]
    if len(rest) == len(ranked):
        return ranked
    from . import scram  # Imported here: not every server offers it.

    if scram.available():
        return ranked
    if not rest:
        raise scram.missing([mechanism.name for mechanism in ranked])
    return rest


def require_offer(session: Session) -> None:
    """Raise NotSupported if the server offers no login."""
    if not session.extensions.offers("AUTH"):
        error = NotSupported("SMTP AUTH extension not supported by server.")
        error.phase = Phase.AUTH
        error.advice = "Drop user and password, or " + (
            "use the server's port for submission"
            if session.tls
            else "ask for TLS: many servers offer a login only inside it"
        )
        raise error


def _no_common(offered: Sequence[str], allowed: Sequence[str | Mechanism] | None) -> MailError:
    error = MailError(f"No suitable authentication method found; offered: {offered}")
    if allowed is not None:
        names = [item if isinstance(item, str) else item.name for item in allowed]
        error.advice = f"auth_mechanisms allows {', '.join(names)} only"
    error.session_usable = True
    return error


def _insecure() -> NotSupported:
    # RFC 4954 section 14: no PLAIN where TLS is missing or its certificate was not verified.
    error = NotSupported("the password would cross the network without verified TLS")
    error.advice = (
        "Set tls='starttls' or tls='implicit'; allow_insecure_auth=True sends it all the same"
    )
    return error
