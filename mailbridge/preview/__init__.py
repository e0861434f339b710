"""A mailbox to look at, for any framework: request in, response out. And previews of messages."""

from .registry import Preview, preview, previews
from .site import Mailbox
from .values import Request, Response

__all__ = ["Mailbox", "Preview", "Request", "Response", "preview", "previews"]
