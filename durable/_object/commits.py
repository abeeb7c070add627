"""The commits of a live object: its turns' writes become batches, and are watched on their way.

Rule: an object has a bounded amount on its way to the disk. Above that its gate is held, and after
`Limits.commit_s_max` without an answer from the disk it is reset.
"""

from __future__ import annotations

from typing import Any

from durable._gates.futures import PendingAnswer, when_done
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._model.errors import InternalError, ObjectReset, WrongLoop
from durable._model.log import log
from durable._storage.object_storage import ObjectStorage

from .live import Phase
from .named import Named
from .reasons import COMMIT_TOO_LONG
from .services import Services


class Commits(Named):
    """What a live object does with its writes, when a turn ends and until they are durable."""

    __slots__ = (
        "gate",
        "is_held_for_room",
        "output",
        "phase",
        "services",
        "storage",
        "watched_seqno",
    )

    services: Services
    gate: InputGate[Any]
    output: OutputGate
    storage: ObjectStorage
    phase: Phase
    # The batch that must be durable when the commit watch looks; None while it need not look.
    watched_seqno: int | None
    is_held_for_room: bool

    def seal(self) -> None:
        buffer = self.storage.buffer
        try:
            buffer.seal()
        except Exception as error:
            log.exception("the writes of %s could not be made a batch", self.label)
            internal = InternalError("the object's writes could not be made a batch", reset=True)
            internal.__cause__ = error
            self.break_(internal)
            return
        if buffer.sealed_bytes > buffer.dirty_bytes_max:
            self._hold_for_room()
        if self.watched_seqno is None and self.output.in_flight:
            self._watch_commit()

    def _hold_for_room(self) -> None:
        """Let nothing in while too much of this object is on its way to the disk."""
        if not self.is_held_for_room:
            room = self.storage.buffer.wait_room(None, holds=False)
            if isinstance(room, PendingAnswer):
                self.is_held_for_room = True
                self.gate.hold()
                when_done(room, self._has_room)

    def _has_room(self) -> None:
        self.is_held_for_room = False
        self.gate.release()

    def wrote_outside(self) -> None:
        """Code outside of any turn may write too: a callback of the loop, a thread's result."""
        if not self.services.loop.is_here():
            raise WrongLoop(f"the storage of {self.label}")
        self.services.loop.call_soon(self._seal_outside_of_turns)

    def _seal_outside_of_turns(self) -> None:
        if self.gate.holder is None and self.output.has_unsealed and self.gate.broken is None:
            self.seal()

    def _watch_commit(self) -> None:
        """Look, when the limit has passed, whether the batch that is sealed now is durable."""
        self.watched_seqno = self.output.seqno_of_all()
        self.services.commit_watch.add(self)

    def reached_limit(self) -> None:
        """The time is over by which `watched_seqno` must be durable."""
        seqno, self.watched_seqno = self.watched_seqno, None
        assert seqno is not None
        if self.phase.is_over:
            return
        if not self.output.is_durable(seqno):
            self.break_(ObjectReset(COMMIT_TOO_LONG, overloaded=True))
        elif self.output.in_flight:
            self._watch_commit()
