"""The blocking driver: runs dialogues on a socket, and does what they wait for."""

from __future__ import annotations

import ssl
import time
from typing import TypeVar

from ..deadline import Deadline, is_over, shortest
from ..errors import Disconnected, MailError
from ..protocol.command import TLS, Errand, Need
from ..protocol.session import Dialogue
from ..protocol.shortcut import Shortcut
from ..report import DeliveryReport
from .wait import READ
from .wire import BLOCK, LATER, Wire

T = TypeVar("T")


class Connection(Wire):
    """A session on its wire, and the dialogues that run over it."""

    # Until when what is needed now is waited for.
    _deadline: float | None = None

    def run(self, dialogue: Dialogue[T], limit: Deadline | None = None) -> T:
        """Run a dialogue to its end, or to its `limit`, and return its result.

        Loss of the connection and time-outs are thrown into it. A MailError that leaves it is
        given host, phase and transcript. Whenever the session is not usable any more, or the
        dialogue was abandoned half-way, the socket is closed.
        """
        self._limit = limit
        try:
            self._look_first()
            need = next(dialogue)
            while True:
                try:
                    self._satisfy(need)
                except MailError as exc:
                    need = dialogue.throw(exc)
                else:
                    need = next(dialogue)
        except StopIteration as done:
            if self.session.unusable_because is not None:
                self.close()
            result: T = done.value
            return result
        except MailError as exc:
            self._locate(exc)
            if not self.session.usable:
                self.close()
            raise
        except BaseException:
            # What it holds for others (a login under way) is let go of now.
            dialogue.close()
            # Interrupted anywhere in a transaction, the next mail must not continue it.
            if self.session.in_transaction or not self.session.usable:
                self.close()
            raise
        finally:
            self._limit = None

    def _satisfy(self, need: Need | Errand) -> None:
        if not isinstance(need, Need):
            self._run_errand(need)
            return
        if need is TLS:
            self.handshake()
            return
        session = self.session
        if self._limit is not None:
            self._check_limit()
        wrote = self._write()
        if session.eof or (session.has_input and session.answer_is_here):
            return
        seconds = self._seconds(need)
        if self._waits_anew(need, wrote):
            self._deadline = self._after(seconds)
        self._read(self._deadline, seconds)

    def _run_errand(self, errand: Errand) -> None:
        try:
            errand.run(shortest(None, self._limit))
        except TimeoutError:
            if not is_over(self._limit):
                raise
            raise self._timed_out(None, "for a login, a token or a hook") from None

    # By a shortcut.

    def exchange(self, shortcut: Shortcut) -> DeliveryReport:
        """Send a mail by a shortcut, and return the report on it.

        One write and one read for each step, if the server says yes to everything. Of whatever else
        happens the session is told, and goes on with it. Interrupted, the connection is closed.
        """
        if shortcut.opens and not self._may_open():
            return self.run(shortcut.hear())
        while True:
            octets, written = shortcut.octets(), 0
            came: bytes | OSError | None = None
            began, seconds = time.monotonic(), self._seconds(shortcut.need)
            try:
                sock = self._connected()
                written = sock.send(octets)
                if written == len(octets) and self._wait_for(READ, seconds):
                    came = sock.recv(BLOCK)
                    if shortcut.consent(came):
                        if shortcut.report is None:
                            continue
                        return shortcut.report
            except OSError as error:
                came = error
            except BaseException:
                self.close()
                raise
            try:
                shortcut.resume()
                self._tell(shortcut.need, octets, written, came, began)
            except Disconnected as lost:
                self.session.abandon("the connection was lost", lost)
            return self.run(shortcut.hear())

    def _may_open(self) -> bool:
        """True if nothing was said on an idle session that its next command would meet."""
        self._look_first()
        return self.session.alive and not self.session.has_input

    def _tell(
        self,
        need: Need,
        octets: bytes,
        written: int,
        came: bytes | OSError | None,
        began: float,
    ) -> None:
        """Let the session know what became of `octets`, which it has given out, and what came."""
        session, seconds = self.session, self._seconds(need)
        session.sending(len(octets))
        if isinstance(came, OSError) and not isinstance(came, LATER):
            if not written:
                self._write_failed(came)
                session.stop_writing()
                return
            if not isinstance(came, ssl.SSLEOFError):
                raise self._lost(came) from came
            came = b""
        session.sent(written)
        if written < len(octets):
            if not self._write_block(memoryview(octets)[written:]):
                session.stop_writing()
            return
        if came is None:
            raise self._timed_out(seconds, "for the server's reply")
        if isinstance(came, bytes):
            session.receive_data(came)
        # If that is no whole reply, its time runs already.
        self._deadline = None if seconds is None else began + seconds
        self._waiting_for = session.answered, need
