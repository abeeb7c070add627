"""How far the conversation has come at one end of a web socket, and which code reads it.

Rule: use and phase change here alone, by the tables of `socket_states`.
"""

from __future__ import annotations

from durable._model.frames import Close

from .socket_states import NEXT_PHASE, SPEAKING, Act, Phase, Step, Use, sending_error, use_after

# Compared for each message; to look a member up in its enum costs more than the comparison.
_ACCEPTED, _HIBERNATABLE = Use.ACCEPTED, Use.HIBERNATABLE
_OPEN, _PEER_CLOSED, _LOST, _ENDED = Phase.OPEN, Phase.PEER_CLOSED, Phase.LOST, Phase.ENDED


class Conversation:
    """The use and the phase of one end."""

    __slots__ = ("heard", "phase", "use")

    def __init__(self, use: Use, phase: Phase) -> None:
        self.use = use
        self.phase = phase
        # How the peer has ended, once that was read, after the messages before it.
        self.heard: Close | None = None

    def act(self, act: Act) -> None:
        """The use becomes what *act* makes of it. Raises what `use_after` does."""
        self.use = use_after(self.use, act)

    def may_send(self) -> bool:
        """Whether the peer can hear a message; else it is to be dropped.

        Raises TypeError before this end is accepted, SentAfterClose after it has closed.
        """
        if self.use is _HIBERNATABLE or self.use is _ACCEPTED:
            if self.phase is _OPEN or self.phase is _PEER_CLOSED:
                return True
            if self.phase is _LOST:
                return False
        raise sending_error(self.use, self.heard)

    @property
    def can_speak(self) -> bool:
        """Whether this end has not closed, and the peer is there."""
        return self.phase is _OPEN or self.phase is _PEER_CLOSED

    def close(self) -> bool:
        """This end closes. False if it has before, or the connection is lost: say nothing then."""
        if self.use not in SPEAKING:
            raise sending_error(self.use, self.heard)
        return self._step(Step.CLOSE)

    def hear(self, frame: Close) -> None:
        """How the peer has ended was read."""
        self.heard = frame
        self._step(Step.HEAR)

    def reply(self) -> Close | None:
        """Close in reply to the peer's close frame. Returns the frame to send; None if none is
        due."""
        if self.heard is None or not self._step(Step.CLOSE):
            return None
        return Close(self.heard.code, self.heard.reason, True)

    @property
    def is_lost(self) -> bool:
        """Whether the connection is gone: what is sent from now on is not heard."""
        return self.phase is _LOST or self.phase is _ENDED

    def _step(self, step: Step) -> bool:
        """Go to the next phase, if *step* leads to one."""
        following = NEXT_PHASE[self.phase].get(step)
        if following is None:
            return False
        self.phase = following
        return True
