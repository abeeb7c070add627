"""The states of one end of a web socket, and every change of them that is allowed.

Rule: an end has one state of use and one phase, and changes them through the two tables below. What
is not in a table is refused (use) or does nothing (phase).

Use: which code reads the end. It is decided once.

    state          accept()   ctx.accept_websocket   leaving in a Response   send(), close()
    NEW            ACCEPTED   HIBERNATABLE           RECEIVED                refused
    RECEIVED       ACCEPTED   HIBERNATABLE           RECEIVED                refused
    ACCEPTED       ACCEPTED   refused                refused                 allowed
    HIBERNATABLE   refused    refused                refused                 allowed
    GIVEN          refused    refused                refused                 refused

An end that leaves an object in a Response goes to its receiver, so it is RECEIVED; the object
that has sent it keeps a spent end, which is GIVEN.

Phase: how far the conversation has come.

    phase         this end closes   the peer's close is read   the connection is lost   ready_state
    OPEN          CLOSING           PEER_CLOSED                LOST                     OPEN
    CLOSING       -                 CLOSED                     ENDED                    CLOSING
    PEER_CLOSED   CLOSED            -                          LOST                     CLOSING
    CLOSED        -                 -                          ENDED                    CLOSED
    LOST          -                 -                          -                        CLOSED
    ENDED         -                 -                          -                        CLOSED

After a loss, messages to the peer are dropped (LOST), unless this end had closed before: then
`send` is a mistake still (ENDED).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from durable._model.errors import DurableError, WebSocketClosed
from durable._model.frames import Close
from durable._model.websocket import WebSocket

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
ACCEPTED_BEFORE = (
    "Cannot call `accept_websocket()` if the WebSocket was already accepted via `accept()`"
)
ACCEPTED_TWICE = "Cannot call `accept_websocket()` on a WebSocket that it has accepted before."
PAIR_IS_USED = (
    "Cannot call `accept_websocket()` on this WebSocket because its pair has already been accepted "
    "or used in a Response."
)


class SentAfterClose(WebSocketClosed, TypeError):
    """`send` after `close`: a mistake of the sender."""


class Use(Enum):
    """Which code reads what arrives at an end."""

    NEW = "not accepted"
    RECEIVED = "not accepted yet"
    ACCEPTED = "accepted"
    HIBERNATABLE = "hibernatable"
    GIVEN = "used in a response"


class Act(Enum):
    """What decides the use of an end."""

    ACCEPT = "accept()"
    HIBERNATE = "ctx.accept_websocket"
    GIVE = "leaving in a Response"


class Phase(Enum):
    """How far the conversation has come at an end."""

    OPEN = "open"
    CLOSING = "closing"
    PEER_CLOSED = "closed by the peer"
    CLOSED = "closed"
    LOST = "disconnected"
    ENDED = "disconnected after closing"


class Step(Enum):
    """What brings the conversation on."""

    CLOSE = "this end sends its close frame"
    HEAR = "the peer's close frame is read"
    LOSE = "the connection is lost"


NEXT_USE: Mapping[Use, Mapping[Act, Use]] = {
    Use.NEW: {
        Act.ACCEPT: Use.ACCEPTED,
        Act.HIBERNATE: Use.HIBERNATABLE,
        Act.GIVE: Use.RECEIVED,
    },
    Use.RECEIVED: {
        Act.ACCEPT: Use.ACCEPTED,
        Act.HIBERNATE: Use.HIBERNATABLE,
        Act.GIVE: Use.RECEIVED,
    },
    Use.ACCEPTED: {Act.ACCEPT: Use.ACCEPTED},
    Use.HIBERNATABLE: {},
    Use.GIVEN: {},
}

SPEAKING = frozenset({Use.ACCEPTED, Use.HIBERNATABLE})

NEXT_PHASE: Mapping[Phase, Mapping[Step, Phase]] = {
    Phase.OPEN: {
        Step.CLOSE: Phase.CLOSING,
        Step.HEAR: Phase.PEER_CLOSED,
        Step.LOSE: Phase.LOST,
    },
    Phase.CLOSING: {Step.HEAR: Phase.CLOSED, Step.LOSE: Phase.ENDED},
    Phase.PEER_CLOSED: {Step.CLOSE: Phase.CLOSED, Step.LOSE: Phase.LOST},
    Phase.CLOSED: {Step.LOSE: Phase.ENDED},
    Phase.LOST: {},
    Phase.ENDED: {},
}

READY_STATES: Mapping[Phase, int] = {
    Phase.OPEN: WebSocket.OPEN,
    Phase.CLOSING: WebSocket.CLOSING,
    Phase.PEER_CLOSED: WebSocket.CLOSING,
    Phase.CLOSED: WebSocket.CLOSED,
    Phase.LOST: WebSocket.CLOSED,
    Phase.ENDED: WebSocket.CLOSED,
}

# What is raised for an act that the table refuses.
_REFUSALS: Mapping[Act, Mapping[Use, tuple[type[Exception], str]]] = {
    Act.ACCEPT: {
        Use.HIBERNATABLE: (TypeError, HIBERNATES),
        Use.GIVEN: (TypeError, USED_IN_RESPONSE),
    },
    Act.HIBERNATE: {
        Use.ACCEPTED: (DurableError, ACCEPTED_BEFORE),
        Use.HIBERNATABLE: (DurableError, ACCEPTED_TWICE),
        Use.GIVEN: (DurableError, PAIR_IS_USED),
    },
    Act.GIVE: {
        Use.ACCEPTED: (TypeError, RESPONSE_TOO_LATE),
        Use.HIBERNATABLE: (TypeError, RESPONSE_TOO_LATE),
        Use.GIVEN: (TypeError, USED_IN_RESPONSE),
    },
}


def use_after(use: Use, act: Act) -> Use:
    """The state of use after *act*. Raises TypeError, or for `ctx.accept_websocket` DurableError,
    where the table refuses it."""
    following = NEXT_USE[use].get(act)
    if following is None:
        kind, text = _REFUSALS[act][use]
        raise kind(text)
    return following


def sending_error(use: Use, heard: Close | None) -> TypeError:
    """What `send` raises where no code uses the end, or else after it has closed."""
    if use not in SPEAKING:
        return TypeError(SENT_TOO_SOON)
    if heard is None:
        return SentAfterClose(SENT_TOO_LATE)
    return SentAfterClose(f"{SENT_TOO_LATE} The peer has closed with {heard.code}.")
