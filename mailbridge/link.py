"""Link: what a connection is whichever driver it has, and the errors that it ends with."""

from __future__ import annotations

import ssl

from .deadline import Deadline, is_over
from .errors import ConnectTimeout, Disconnected, MailError, ReplyTimeout, TLSError
from .options import Timeouts
from .protocol.command import FINAL_REPLY, GOODBYE, Need
from .protocol.session import Session
from .tls import Sessions, sessions_of

# The mail is delivered by then; its sender should not wait for a server that will not part.
PATIENCE_AT_QUIT = 5.0


class Link:
    """A session, and how its connection is to be. `host` is "name:port", for errors."""

    # What was looked for when it was asked if it is alive need not be looked for again.
    _looked = False

    def __init__(
        self,
        session: Session,
        timeouts: Timeouts,
        host: str,
        *,
        server_hostname: str | None = None,
        context: ssl.SSLContext | None = None,
        pins: tuple[str, ...] = (),
        resumes: bool = False,
    ) -> None:
        self.session = session
        self.timeouts = timeouts
        self.host = host
        self.server_hostname = server_hostname
        self.context = context
        self.pins = pins
        self._resumes = resumes
        self._sessions: Sessions | None = None
        self._waiting_for: tuple[int, Need] | None = None
        self._limit: Deadline | None = None

    @property
    def open(self) -> bool:
        """False once it is closed."""
        raise NotImplementedError

    def alive(self) -> bool:
        """False if the server has closed the connection, or said anything unasked."""
        raise NotImplementedError

    def look(self) -> None:
        """Take what the server has said while nobody waited for it, or that it is gone."""
        raise NotImplementedError

    def _look_first(self) -> None:
        """Look before anything is written, unless that was done just now."""
        if not self._looked:
            self.look()
            if self.session.has_input:
                self.look()  # It may have gone since it said that.
        self._looked = False

    def close(self) -> None:
        """Close it at once. Nothing is said to the server."""
        raise NotImplementedError

    def leave(self) -> None:
        """QUIT and close, without waiting for the answer: nobody needs it."""
        raise NotImplementedError

    # Time.

    def _waits_anew(self, need: Need, wrote: bool) -> bool:
        """True if what is waited for is not what was waited for before: its time begins now."""
        waiting_for = (self.session.answered, need)
        anew = wrote or waiting_for != self._waiting_for
        self._waiting_for = waiting_for
        return anew

    def _seconds(self, need: Need) -> float | None:
        """For how long a need is waited for."""
        if need is FINAL_REPLY:
            return self.timeouts.final_reply
        reply = self.timeouts.reply
        if need is GOODBYE:
            return PATIENCE_AT_QUIT if reply is None else min(reply, PATIENCE_AT_QUIT)
        return reply

    # TLS.

    @property
    def _key(self) -> tuple[str, str | None, tuple[str, ...]]:
        return self.host, self.server_hostname, self.pins

    def _context(self) -> ssl.SSLContext:
        if self.context is None:
            raise TLSError("no TLS context was given for this connection")
        return self.context

    def _session_to_resume(self) -> ssl.SSLSession | None:
        if not self._resumes:
            return None
        self._sessions = sessions_of(self._context())
        return self._sessions.get(self._key)

    def _keep(self, tls: ssl.SSLSocket | ssl.SSLObject) -> None:
        sessions, self._sessions = self._sessions, None
        # Without a channel the certificate was not looked at to the end.
        if sessions is not None and self.session.channel.tls:
            sessions.keep(self._key, tls)

    def disown(self) -> None:
        """In a forked child: a thread of the parent may have been about something in it."""
        self._sessions = None

    def _handshake_timed_out(self) -> ReplyTimeout:
        error = self._timed_out(self.timeouts.connect, "for the TLS handshake")
        error.advice = "If this port does not start with TLS, use tls='starttls'"
        return error

    # Errors.

    def _locate(self, error: MailError) -> None:
        """Say where an error that leaves a dialogue has come from."""
        error.located(
            host=self.host,
            phase=str(self.session.phase),
            transcript=self.session.transcript.lines(),
        )

    def _blame(self, error: ConnectTimeout, limit: Deadline | None) -> None:
        """Name the limit of the whole send, if that is what was reached."""
        if is_over(limit):
            error.args = (f"no connection within {limit}",)
            error.advice = "Raise deadline, if the server may take longer"

    def _check_limit(self) -> None:
        """Raise rather than begin a content whose reply there is no time to wait for."""
        if self.session.at_content() and is_over(self._limit):
            raise self._timed_out(None, "to send the content")

    def _timed_out(self, seconds: float | None, what: str) -> ReplyTimeout:
        self.session.abandon("timed out")
        if is_over(self._limit):
            late = ReplyTimeout(f"{self._limit} is over, waiting {what}")
            late.advice = "Raise deadline, if the server may take longer"
            return late
        error = ReplyTimeout(f"timed out after {seconds:g} s waiting {what}")
        if self.session.hello is None and not self.session.tls and not self.session.answered:
            error.advice = (
                "If this port speaks TLS from the first byte, as 465 does, use tls='implicit'"
            )
        return error

    def _lost(self, exc: OSError) -> Disconnected:
        self.session.abandon("the connection was lost")
        return Disconnected(f"the connection was lost: {exc.strerror or exc}")
