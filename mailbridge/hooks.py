"""Hooks round the moment at which a mail changes hands: for a ledger that sends at most once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .calling import acall, call
from .convert import hook

if TYPE_CHECKING:
    from .envelope import Address
    from .protocol.reply import Reply


class Handover(NamedTuple):
    """A mail that is handed to a server now, or has been.

    `recipients` are those that the server has accepted, and that the hand-over is for; `relay` is
    "host:port"; `attempt` counts from 1. `reply` is the server's reply to the content, None before.
    """

    message_id: str | None
    sender: str | None
    recipients: tuple[str, ...]
    relay: str
    attempt: int = 1
    reply: Reply | None = None


#: Called with a Handover. What it returns is awaited if need be, and otherwise ignored.
Hook = Callable[[Handover], Any]


class Hooks(NamedTuple):
    """The hooks of a transport."""

    before_final_dot: Hook | None
    after_reply: Hook | None

    @classmethod
    def of(cls, before_final_dot: object, after_reply: object) -> Hooks | None:
        """Both, None if there is neither. Raises OptionError."""
        before = hook("before_final_dot", before_final_dot)
        after = hook("after_reply", after_reply)
        return None if before is None and after is None else cls(before, after)


class Witness(NamedTuple):
    """What is told of one mail's hand-over, and whom."""

    hooks: Hooks
    handover: Handover

    def before_final_dot(self, recipients: Sequence[Address]) -> Call | None:
        """The call before the end of the content is sent for these recipients."""
        return self._call(self.hooks.before_final_dot, recipients, None)

    def after_reply(self, recipients: Sequence[Address], reply: Reply) -> Call | None:
        """The call after the server's reply to the content, for these recipients."""
        return self._call(self.hooks.after_reply, recipients, reply)

    def _call(
        self, hook: Hook | None, recipients: Sequence[Address], reply: Reply | None
    ) -> Call | None:
        if hook is None:
            return None
        texts = tuple(address.text for address in recipients)
        return Call(hook, self.handover._replace(recipients=texts, reply=reply))


class Call:
    """One call of a hook, for a driver to run. Afterwards it has its `error`, if it raised one."""

    def __init__(self, hook: Hook, handover: Handover) -> None:
        self._hook = hook
        self._handover = handover
        self.error: Exception | None = None

    def run(self, seconds: float | None = None) -> None:
        """Call it, however long it takes. A coroutine has an event loop and a thread of its own."""
        try:
            call(self._hook, self._handover)
        except Exception as exc:
            self.error = exc

    async def arun(self) -> None:
        """Await it; a blocking one runs in a thread."""
        try:
            await acall(self._hook, self._handover)
        except Exception as exc:
            self.error = exc
