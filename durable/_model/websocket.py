"""What one end of a web socket is to its user; `_border/websocket.py` has the ends themselves.

Rule: only what users may call is here, so that a `Response` can bring an end without knowing how
sockets work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable
from typing import Any, ClassVar


class WebSocket(ABC):
    """One end of a web socket. `WebSocketPair()` makes the two.

    To use an end, `accept()` it or give it to `ctx.accept_websocket`. An accepted end is read with
    `async for message in ws`, which ends at a close frame and raises WebSocketClosed when the peer
    is gone without one.
    """

    # The values of `ready_state`, with the web's numbers.
    CONNECTING: ClassVar[int] = 0
    OPEN: ClassVar[int] = 1
    CLOSING: ClassVar[int] = 2
    CLOSED: ClassVar[int] = 3

    __slots__ = ()

    @abstractmethod
    def accept(self) -> None:
        """Begin to use this end; more than once does no harm."""

    @abstractmethod
    def send(self, message: str | bytes) -> Awaitable[None]:
        """Send a message; it is on its way when this returns.

        Awaiting the answer waits while the peer has much unread. If no task awaits, and more than
        16 MiB are unread, the socket is closed with 1013. What is sent to a peer that is gone is
        dropped. Raises TypeError for what no message can be and before the end is accepted,
        ValueError for more than 32 MiB and for a lone surrogate, WebSocketClosed after `close()`
        and when the peer's close frame was answered.
        """

    @abstractmethod
    def close(self, code: int | None = None, reason: str | None = None) -> Awaitable[None]:
        """Say that this end sends nothing more. What the peer sends is still read.

        Once is enough, and further calls do nothing. Raises ValueError for a code that may not be
        sent and for a reason of more than 123 bytes or with a lone surrogate, TypeError for a
        reason without a code.
        """

    @property
    @abstractmethod
    def ready_state(self) -> int:
        """`OPEN`; `CLOSING` when one side has closed; `CLOSED` when both have, or the peer is gone.

        A broadcast sends to those that are open, and so not to those that are about to close.
        """

    @property
    @abstractmethod
    def close_code(self) -> int | None:
        """The code that the peer has closed with: 1005 if it gave none, 1006 if it is gone without
        a word; None while it has not. A reader learns it after the messages before it."""

    @property
    @abstractmethod
    def close_reason(self) -> str | None:
        """The reason that the peer has closed with."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[str | bytes]: ...

    @abstractmethod
    async def __anext__(self) -> str | bytes: ...

    @abstractmethod
    def serialize_attachment(self, value: Any) -> None:
        """Keep *value* with the socket; it survives hibernation.

        Raises UnstorableValue, and ValueError if it takes more than `Limits.attachment_size_max`.
        """

    @abstractmethod
    def deserialize_attachment(self) -> Any:
        """A copy of what was kept last, or None."""
