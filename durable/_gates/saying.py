"""What an object says in a turn: it leaves when the turn ends, or waits for others.

So a reset takes it back with the turn's writes. Code that has no turn, such as a callback of the
event loop, has nothing to wait for but the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .delivery import Delivery
from .output_gate import Unheard


def say(
    delivery: Delivery[Any], release: Callable[[], None], unheard: Unheard | None = None
) -> None:
    """Let code of *delivery* send something: *release* is called when its turn has ended, and what
    was written by now is on disk. If that never happens, *unheard* is called with the reason.

    Raises the reason if the object is broken, or Stopped in its own code.
    """
    gate = delivery.gate
    if gate.broken is not None:
        raise gate.stopped()
    holder, output = gate.holder, gate.output
    # What a callback says does not overtake what the turn has said.
    if holder is delivery or output.unsaid is not None or (holder and holder is delivery.home):
        message = (output.seqno(), release, unheard)
        if output.unsaid is None:
            output.unsaid = [message]
        else:
            output.unsaid.append(message)
        if holder is not None and (holder.is_section or holder.fanned_out):
            gate.watch()  # it may be waiting now
    else:
        output.when_durable(output.seqno(), release, unheard)


def let_go(delivery: Delivery[Any] | None) -> None:
    """Code of *delivery* is about to wait, perhaps for an answer to what it has sent: that leaves
    now. If others of its tasks may have their turn in this round, in the next one."""
    if delivery is None:
        return
    gate = delivery.gate
    output, holder = gate.output, gate.holder
    if output.unsaid is None or (holder is not delivery and holder is not delivery.home):
        return
    if not holder.fanned_out:
        output.let_go()
        return
    until = output.begin_to_leave()
    if until is not None:
        gate.loop.call_soon(partial(output.let_go_until, until))
