"""asyncio: `AsyncSMTP` and `AsyncTransport`, over the same dialogues as the blocking side."""

from .pool import close_pools
from .smtp import AsyncLMTP, AsyncSMTP
from .transport import AsyncTransport

__all__ = ["AsyncLMTP", "AsyncSMTP", "AsyncTransport", "close_pools"]
