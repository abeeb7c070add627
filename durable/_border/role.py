"""Who reads what arrives at an end of a web socket, and what may be done with it therefore."""

from __future__ import annotations

from enum import Enum

SENT_TOO_SOON = (
    "You must call one of accept() or ctx.accept_websocket() on this WebSocket before sending "
    "messages."
)
SENT_TOO_LATE = "Can't call WebSocket send() after close()."
USED_IN_RESPONSE = "Can't accept() WebSocket that was already used in a response."
HIBERNATES = "Can't accept() WebSocket after enabling hibernation."
RESPONSE_TOO_LATE = (
    "Can't return WebSocket in a Response after it was accepted; accept the other end of the pair"
)


class Role(Enum):
    """Who reads what arrives at an end."""

    NEW = "not accepted"
    ACCEPTED = "accepted"
    HIBERNATABLE = "hibernatable"
    GIVEN = "used in a response"

    def check_can_be_accepted(self) -> None:
        """Raise TypeError where `accept()` makes no sense."""
        if self is Role.HIBERNATABLE:
            raise TypeError(HIBERNATES)
        if self is Role.GIVEN:
            raise TypeError(USED_IN_RESPONSE)

    def check_can_be_given(self) -> None:
        """Raise TypeError where the end cannot leave in a Response."""
        if self is Role.GIVEN:
            raise TypeError(USED_IN_RESPONSE)
        if self is not Role.NEW:
            raise TypeError(RESPONSE_TOO_LATE)

    def check_can_speak(self) -> None:
        """Raise TypeError where nobody uses the end yet, or any more."""
        if self is Role.NEW or self is Role.GIVEN:
            raise TypeError(SENT_TOO_SOON)
