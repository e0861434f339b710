"""Session: one SMTP session without its socket. Bytes in, bytes out.

What was sent and is not answered yet stands in one queue. Replies are paired with it by counting,
never by code or text (RFC 2920 section 3.1). Everything that makes a pairing doubtful ends the
session: `usable` turns false, and whoever holds the socket closes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import TypeAlias, TypeVar

from ..errors import Disconnected, ProtocolViolation
from ..report import Phase
from .channel import Channel
from .command import Command, Content, Errand, Greeting, Need, Octets, Raw, Unprompted
from .effects import EFFECTS
from .extension import Extensions
from .mail import Group
from .output import Output
from .reply import Reply, ReplyParser, closed_by
from .transcript import Transcript

T = TypeVar("T")

#: A conversation: yields what it waits for, returns its result. Loss of the connection and
#: time-outs are thrown into it.
Dialogue: TypeAlias = Generator[Need | Errand, None, T]


class Session:
    """The client's side of one SMTP (or LMTP) session."""

    def __init__(self, *, lmtp: bool = False, ignore_extensions: Iterable[str] = ()) -> None:
        self.lmtp = lmtp
        self.ignore_extensions = frozenset(ignore_extensions)
        self.transcript = Transcript()
        self.tls = False
        self.channel = Channel()
        self.authenticated = False
        #: A login that was begun, whose reply is heard with those to the first mail.
        self.login: Dialogue[None] | None = None
        self.mail_accepted = 0
        self.answered = 0
        self.unusable_because: str | None = None
        self.parser = ReplyParser()
        # Each stands here until its last reply; those of the first are counted.
        self._unanswered: deque[Command] = deque()
        self._heard = 0
        # What was sent or answered last, and by which of its replies.
        self._current: Command | None = None
        self._place = 0
        self._output = Output()
        # What a driver takes out, and how it tells how far that has come: see `Output`.
        self.data_to_send = self._output.take
        self.sending = self._output.sending
        self.sent = self._output.sent
        self.stop_writing = self._output.clear
        self.eof = False
        #: True while the session goes on: what is unanswered will be answered.
        self.alive = True
        self._lost: Disconnected | None = None  # while an answer was here
        self.has_input = False  #: True if something was received that no reply was made of yet.
        self._peeked: Reply | None = None
        self._last: Reply | None = None
        self.forget()

    def forget(self) -> None:
        """Forget what the server said of itself, as after the TLS handshake (RFC 3207 4.2)."""
        self.extensions = Extensions()
        self.hello: Reply | None = None
        self.esmtp = False
        self.smtputf8 = False
        self.in_transaction = False
        #: True if the envelope of a mail was granted, and its content is what comes next.
        self.granted = False
        self.recipients_accepted = 0

    @property
    def phase(self) -> Phase:
        """The step of the dialogue that was taken last."""
        if self._current is None:
            return Phase.CONNECT
        return self._current.phase_at(self._place) or Phase.COMMAND

    # What goes out.

    def send(self, *commands: Command) -> None:
        """Queue commands. Raises Disconnected if the server said good-bye in the meantime."""
        # The greeting may be here. What comes with the 354 is judged when the content is: a
        # refusal is worth reporting.
        if self.unusable_because is not None:
            raise self._ended()
        first = commands[0]
        self._current, self._place, self.granted = first, 0, False
        if not (self._unanswered or isinstance(first, (Content, Greeting))):
            self.require_silence()
        for command in commands:
            if command.begins:
                # From here on, until the reply says otherwise: whoever is interrupted now must
                # not send the next mail into this transaction.
                self.in_transaction = True
        self._unanswered.extend(commands)
        self._output.put(commands)
        self.transcript.note(*commands)

    def send_raw(self, data: bytes) -> None:
        """Queue octets that are no command and that nothing answers by themselves."""
        self._output.put([Octets(data)])

    def has_left(self, command: Command) -> bool:
        """True if the last octet of a command that was sent here may have left."""
        return self._output.has_left(command)

    @property
    def handed_over(self) -> bool:
        """True if the last octet of a content that is not answered yet may have left."""
        return any(
            isinstance(command, Content) and command.last and self._output.has_left(command)
            for command in self._unanswered
        )

    # What comes in.

    def receive_data(self, data: bytes) -> None:
        """Take what the server sent; empty bytes mean that it closed the connection."""
        if data:
            self.parser.feed(data)
            self.has_input = True
        else:
            self.eof, self.alive = True, False

    def at_content(self) -> bool:
        """True if the next octets to write are content."""
        return self._output.next_content is not None

    @property
    def may_be_cut_short(self) -> bool:
        """True if the next octets are of a content that the server may have refused already.

        Not so for the first of it: they follow the reply that asked for them.
        """
        content = self._output.next_content
        return content is not None and (content.begun or self._unanswered[0] is not content)

    @property
    def pipelining(self) -> bool:
        """True if commands may be sent in groups (RFC 2920)."""
        return "pipelining" in self.extensions

    @property
    def chunking(self) -> bool:
        """True if content may be sent by BDAT (RFC 3030)."""
        return "chunking" in self.extensions

    @property
    def idle(self) -> bool:
        """True if nothing is unanswered, waits to be written, or is to follow what was granted."""
        return not (self._unanswered or self._output or self.granted)

    @property
    def answered_early(self) -> bool:
        """True if a reply came to something that is not written to its end."""
        if not self.has_input or not self._unanswered:
            return False
        if self._awaited_has_left(self._unanswered[0], self._heard):
            return False
        return self.answer_is_here

    def _awaited_has_left(self, command: Command, index: int) -> bool:
        """True if what this reply to `command` would answer may have left."""
        return self._output.has_left(command) or (
            command.replies > 1 and self._output.has_left(command, command.behind(index))
        )

    @property
    def answer_is_here(self) -> bool:
        """True if a whole reply was received that nobody has taken."""
        if self.has_input and self._peeked is None:
            self._peeked = self._parse()
        return self._peeked is not None

    @property
    def usable(self) -> bool:
        """True if another command may be sent on this connection."""
        return self.alive and self.idle

    def abandon(self, why: str, lost: Disconnected | None = None) -> None:
        """End the session: nobody knows its state. Who waits for a reply is told `lost`."""
        self._lost = self._lost or lost
        self.unusable_because = self.unusable_because or why
        self.alive = False
        login, self.login = self.login, None
        if login is not None:
            login.close()

    def require_silence(self) -> None:
        """Raise if the server sent something that nothing asked for.

        Disconnected after a 421 or the end of the connection (RFC 5321 section 3.8), else
        ProtocolViolation: the next reply could not be paired any more.
        """
        if self.has_input:
            reply, self._peeked = self._peeked, None
            reply = reply or self._parse()
            if reply is not None:
                self.transcript.note(reply)
            self.abandon("the server spoke unasked")
            if reply is not None and reply.code == 421:
                raise closed_by(reply)
            text = "part of a reply" if reply is None else str(reply)
            raise ProtocolViolation(f"the server sent more than was asked for: {text}")
        if not self.alive:
            raise self._ended()

    def _ended(self) -> Disconnected:
        if self._last is not None and self._last.code == 421:
            return closed_by(self._last)
        if self._lost is not None:
            return self._lost
        if self.unusable_because is None:
            self.abandon("the server closed the connection")
            return Disconnected("Connection unexpectedly closed")
        return Disconnected(f"the session was ended: {self.unusable_because}")

    def reply(self) -> Dialogue[Reply]:
        """The reply to the oldest unanswered command.

        Raises Disconnected if the connection ends first, ProtocolViolation if what comes is no
        reply or comes before the command was sent to its end.
        """
        if not self._unanswered:
            if self.unusable_because is not None:
                raise self._ended()
            self.send(Unprompted())
        if not (self.has_input or self.eof):
            yield from self.wait()
        while (reply := self.take_reply()) is None:
            yield from self.wait()
        return reply

    def wait(self) -> Dialogue[None]:
        """Wait for something to come. Raises Disconnected, unless an answer came before the end."""
        if self._lost is not None:
            raise self._lost  # Nobody waits again, or writes on behind what was not written.
        self._current, self._place = self._unanswered[0], self._heard
        try:
            yield self._current.need
        except ProtocolViolation:
            raise  # What stands behind it is no answer to anything.
        except Disconnected as lost:
            # A refused chunk is answered while those behind it are written, perhaps in vain.
            if not self.answer_is_here:
                raise
            self._lost = lost

    def take_reply(self) -> Reply | None:
        """The reply to the oldest unanswered command, None if it is not here yet.

        What came in one read is taken by this, without a step of the driver's for each.
        Raises as `reply` does.
        """
        if not self._unanswered:
            raise self._ended()  # A 421 to another command has answered them all.
        command, index = self._unanswered[0], self._heard
        self._current, self._place = command, index
        reply, self._peeked = self._peeked, None
        if reply is None and (reply := self._parse()) is None:
            if self.eof:
                raise self._ended()
            return None
        self.has_input = self.parser.has_pending
        self.answered += 1
        self._heard = index + 1
        if self._heard >= command.replies:
            self._unanswered.popleft()
            self._heard = 0
        shown = reply
        if command.logs_in:
            reply, shown = self.parser.without_names(reply)
        self.transcript.note(shown)
        if not self._awaited_has_left(command, index):
            self._check_timing(command, reply)
        if reply.code == 421:
            # RFC 5321 section 3.8: the server closes; what is unanswered never will be.
            self._output.clear()
            self._unanswered.clear()
            self._heard = 0
            self.abandon("the server closes the connection (421)")
        effect = EFFECTS.get(type(command))
        if effect is not None:
            effect(self, command, reply, index)
        self._last = reply
        return reply

    def take_consent(self, group: Group, content: Content | None = None) -> list[Reply] | None:
        """The replies to a whole group, and first to the content that went out before it.

        If all are here and say yes; else nothing is taken. The short way for nearly every mail.
        """
        queue, first = self._unanswered, content or group
        if not (self.has_input and queue and queue[0] is first and self._output.has_left(group)):
            return None
        if self._heard or self._peeked is not None:
            return None
        count = group.replies + (content is not None)
        replies = self.parser.take_consent(count, 3 if group.asks_for_data else 2)
        if replies is None:
            return None
        if content is not None:
            queue.popleft()
            self.mail_accepted += 1
            self.end_transaction()
            self.granted = True
        self._current, self._place = queue.popleft(), group.replies - 1
        self.answered += count
        self.has_input = self.parser.has_pending
        self.transcript.note(*replies)
        self._last = replies[-1]
        return replies

    def note_exchange(self, command: Command, replies: list[Reply]) -> None:
        """Take note of a command that went by a shortcut, and of its replies: each says yes."""
        self._current, self._place, self._last = command, len(replies) - 1, replies[-1]
        self.answered += len(replies)
        self.transcript.note(command, *replies)

    def command(self, command: Command) -> Dialogue[Reply]:
        """Send one command and return its reply, after those of any that are unanswered."""
        self.send(command)
        while True:
            answered = self._unanswered[0]
            reply = yield from self.reply()
            if answered is command:
                return reply

    def _parse(self) -> Reply | None:
        try:
            return self.parser.next_reply()
        except ProtocolViolation:
            self.abandon("the server sent something that is no reply")
            raise

    def _check_timing(self, command: Command, reply: Reply) -> None:
        """Judge a reply to what was not sent to its end."""
        if reply.code == 421:
            return
        self._output.clear()
        self.abandon("the server answered before it had heard everything")
        # RFC 5321 section 4.3.1: a refusal in the middle of the content is one, and worth
        # reporting; an acceptance of what was not sent yet is none.
        if not (isinstance(command, Content) and (reply.transient or reply.permanent)):
            raise ProtocolViolation(f"an answer to what was not sent to its end: {reply}")

    def end_transaction(self) -> None:
        """The server's state is as before MAIL, unless another MAIL is on its way."""
        self.in_transaction = False
        for command in self._unanswered:
            self.in_transaction = self.in_transaction or command.begins
        self.smtputf8 = False
        self.recipients_accepted = 0

    # Secrets.

    def guard(self, secret: bytes = b"", *, names: Iterable[str] = ()) -> None:
        """Mask this in every later reply, and `names` in replies to AUTH until it succeeds.

        Some servers echo the command they refuse.
        """
        self.parser.guard(secret, names)

    def logged_in(self) -> None:
        """Note that AUTH succeeded: from now on a user's name is a word like others."""
        self.authenticated = True
        self.parser.names = ()

    @property
    def asked_for_secret(self) -> bool:
        """True if the next line may answer a challenge: one came (334), or AUTH is unanswered."""
        if any(isinstance(command, Raw) and command.logs_in for command in self._unanswered):
            return True
        return self._last is not None and self._last.code == 334
