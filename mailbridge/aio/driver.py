"""The asyncio driver: steps dialogues from the callbacks of a transport.

A dialogue goes on as soon as its reply is here, in the callback that brought it; the task that
waits for its result is woken once, at the end. Reading goes on while writing.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from ..deadline import Deadline, is_over, shortest
from ..errors import Disconnected, MailError
from ..protocol.command import TLS, Errand, Need
from ..protocol.session import Dialogue
from ..protocol.shortcut import Shortcut
from ..report import DeliveryReport
from .wire import Wire

T = TypeVar("T")


class Connection(Wire):
    """A session on its wire, and the dialogue that is running over it."""

    # What the dialogue waits for, how it ended, and who waits for that.
    _dialogue: Dialogue[Any] | None = None
    _need: Need | None = None
    _errand: Errand | None = None
    _end: tuple[Any, BaseException | None] | None = None
    _waiter: asyncio.Future[None] | None = None
    # What is on its way without the session, and how many octets.
    _shortcut: Shortcut | None = None
    _given = 0

    async def run(self, dialogue: Dialogue[T], limit: Deadline | None = None) -> T:
        """Run a dialogue to its end, or to its `limit`, and return its result.

        Loss of the connection and time-outs are thrown into it. A MailError that leaves it is
        given host, phase and transcript. Whenever the session is not usable any more, or the
        task is cancelled in the middle of a transaction, the connection is closed. The
        CancelledError then has the `report` on a mail that was on its way.
        """
        if self._dialogue is not None or self._shortcut is not None:
            dialogue.close()
            raise RuntimeError("this connection is in the middle of a dialogue")
        self._dialogue, self._limit, self._waiting_for = dialogue, limit, None
        self._look_first()
        self._step()
        result: T = await self._conclude()
        return result

    async def exchange(self, shortcut: Shortcut) -> DeliveryReport:
        """Send a mail by a shortcut, and return the report on it.

        One write and one read for each step, if the server says yes to everything. Of whatever else
        happens the session is told, and goes on with it. Cancelled, it is as `run` is.
        """
        if shortcut.opens and not self._may_open():
            return await self.run(shortcut.hear())
        self._give(shortcut)
        if self._shortcut is not None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            except BaseException as exc:
                self._interrupted(exc)
                self._reset()
                raise
        if self._end is None or self._dialogue is not None:
            report: DeliveryReport = await self._conclude()
        else:
            report, _ = self._end
            self._end = self._waiter = None
        return report

    def _may_open(self) -> bool:
        """True if nothing was said on an idle session that its next command would meet."""
        self._look_first()
        session = self.session
        return self._dialogue is None and session.alive and not session.has_input

    async def _conclude(self) -> Any:
        """Wait for the dialogue to end, and return its result."""
        session = self.session
        try:
            while self._end is None:
                if self._errand is not None:
                    errand, self._errand = self._errand, None
                    self._step(await self._ran(errand))
                else:
                    self._waiter = self._loop.create_future()
                    await self._waiter
            value, error = self._end
            if error is not None:
                raise error
        except MailError as exc:
            self._locate(exc)
            if not session.usable:
                self.close()
            raise
        except BaseException as exc:
            self._interrupted(exc)
            raise
        finally:
            self._reset()
        if session.unusable_because is not None:
            self.close()
        return value

    def _reset(self) -> None:
        self._dialogue = self._need = self._errand = self._limit = self._shortcut = None
        self._end = self._waiter = None

    async def _ran(self, errand: Errand) -> MailError | None:
        """Run an errand. Returns the error if the limit was reached."""
        try:
            async with asyncio.timeout(shortest(None, self._limit)):
                await errand.arun()
        except TimeoutError:
            if not is_over(self._limit):
                raise
            return self._timed_out(None, "for a login, a token or a hook")
        return None

    def _interrupted(self, exc: BaseException) -> None:
        """Leave nothing half done. The next mail must not continue this one's transaction."""
        self._leave_shortcut()
        dialogue, self._dialogue, self._need = self._dialogue, None, None
        if self.session.in_transaction or not self.session.usable:
            self.close()
        value = None if self._end is None else self._end[0]
        if self._end is None and dialogue is not None:
            try:
                # So it also lets go of what it holds for others (a login under way).
                dialogue.throw(Disconnected("the task was cancelled"))
            except StopIteration as done:
                value = done.value
            except Exception as other:
                other.__traceback__ = None
            dialogue.close()
        if isinstance(value, DeliveryReport):
            exc.report = value  # type: ignore[attr-defined]

    # By a shortcut.

    def _give(self, shortcut: Shortcut) -> None:
        """Write what comes next in it."""
        octets = shortcut.octets()
        self._shortcut, self._given = shortcut, len(octets)
        try:
            self._hand_over(octets)
        except MailError as exc:
            self._leave_shortcut()
            self._step(exc)
            return
        transport = self._connected()
        if transport.is_closing() or transport.get_write_buffer_size():
            self._leave_shortcut()
        else:
            self._timer.set(self._seconds(shortcut.need))

    def _receive(self, data: bytes) -> None:
        shortcut = self._shortcut
        if shortcut is None:
            self.session.receive_data(data)
        elif not shortcut.consent(data):
            self._leave_shortcut()
            self.session.receive_data(data)
        elif shortcut.report is None:
            self._give(shortcut)
        else:
            self._shortcut, self._end = None, (shortcut.report, None)
            self._wake()

    def _leave_shortcut(self) -> None:
        shortcut, self._shortcut = self._shortcut, None
        if shortcut is None:
            return
        shortcut.resume()
        self._dialogue = shortcut.hear()
        self.session.sending(self._given)
        self._count(self._given)
        # The time for the reply has begun.
        self._wrote, self._waiting_for = bool(self._held), (self.session.answered, shortcut.need)
        self._step()

    # The dialogue goes on.

    def _step(self, error: MailError | None = None) -> None:
        """Go on with the dialogue, until it has to wait or has ended."""
        dialogue = self._dialogue
        if dialogue is None or self._end is not None:
            return
        self._need = None
        try:
            while True:
                need = next(dialogue) if error is None else dialogue.throw(error)
                error = None
                if not isinstance(need, Need):
                    self._errand = need
                    self._timer.clear()
                    break
                try:
                    if not (self._begin_tls() if need is TLS else self._satisfied(need)):
                        self._need = need
                        return
                except MailError as exc:
                    error = exc
        except StopIteration as done:
            self._end = done.value, None
        except BaseException as exc:
            self._end = None, exc
        self._wake()

    def _wake(self) -> None:
        """Let whoever waits go on: there is an end, or an errand to run."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _satisfied(self, need: Need) -> bool:
        """Write what there is to write. True if what the dialogue needs is here."""
        session = self.session
        if self._limit is not None:
            self._check_limit()
        if not self._write():
            if not (session.eof or session.answered_early):
                return False
            self._stop_writing()
        if session.eof or (session.has_input and session.answer_is_here):
            return True
        if self._transport is None:
            self._connected()
        if self._waits_anew(need, self._wrote):
            seconds = self._seconds(need)
            self._timer.set(seconds if self._limit is None else shortest(seconds, self._limit))
        self._wrote = False
        return False

    @property
    def _shaken(self) -> bool:
        return self._records is not None and self._records.established

    def _heard(self) -> None:
        need = self._need
        if need is TLS or self._held or self._blocks or self._goes_on_soon:
            self._go_on()
        elif need is not None:
            self._step()  # If it is no whole reply yet, the dialogue says so.

    def _go_on(self) -> None:
        need = self._need
        if need is None:
            return
        try:
            if self._shaken if need is TLS else self._satisfied(need):
                self._step()
        except MailError as exc:
            self._step(exc)

    def _fail(self, error: MailError) -> None:
        self._leave_shortcut()
        if self._need is not None:
            self._step(error)

    def _late(self) -> None:
        self._leave_shortcut()
        self._count_held()
        need = self._need
        if need is TLS:
            error = self._handshake_timed_out()
        elif self._held:
            error = self._timed_out(self.timeouts.reply, "for the server to read")
        elif need is None:
            return  # What was waited for has come in time.
        else:
            error = self._timed_out(self._seconds(need), "for the server's reply")
        self._step(error)
