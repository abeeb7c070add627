"""What one end of a web socket sends goes through the gates.

Rule: a frame leaves when the turn that has sent it has ended, and all that was written before it is
durable; a reset takes it back. The order of frames is kept by the end (`outbox`).
"""

from __future__ import annotations

from collections.abc import Iterable

from durable._gates.delivery import CURRENT
from durable._gates.saying import say
from durable._model.frames import Close, Frame

from .outbox import Held, Together
from .socket_end import End
from .socket_states import Phase


def send_frame(end: End, frame: Frame, size: int) -> None:
    """Send *frame* of the code that runs, an object's or the program's own."""
    sender = CURRENT.get()
    if sender is None:
        end.say(frame, size)
    elif sender.gate.broken is not None:
        if not isinstance(frame, Close):  # a close frame may be the library's
            sender.gate.check()
    else:
        held = end.hold(frame, size, sender.gate)
        say(sender, held.leave, held)


def send_to_all(ends: Iterable[End], message: str | bytes, size: int) -> int:
    """Send *message* at each of *ends* that is open; returns at how many.

    It goes through the gates once, however many they are.
    """
    sender = CURRENT.get()
    if sender is not None and sender.gate.broken is not None:
        sender.gate.check()
    open_ends: list[End] = []
    held = Held(Together(open_ends), message, size, None if sender is None else sender.gate)
    for end in ends:
        # To make room for it may cut this one, or others.
        if end.phase is Phase.OPEN and end.reserve(size):
            end.hold_with_others(held)
            open_ends.append(end)
    if not open_ends:
        return 0
    if sender is None:
        held.leave()
    else:
        say(sender, held.leave, held)
    return len(open_ends)


def reply(end: End) -> None:
    """Send the reply to the peer's close frame, if one is due.

    The reply of an end that an object reads itself waits for what that object wrote, whichever
    code runs.
    """
    frame = end.reply()
    if frame is None:
        return
    gate = end.gate
    if gate is None:
        send_frame(end, frame, 0)
    elif gate.output.is_open():
        end.say(frame, 0)
    else:
        held = end.hold(frame, 0, gate)
        gate.output.when_durable(gate.output.seqno(), held.leave, held)
