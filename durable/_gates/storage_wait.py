"""A wait for the storage: the object's input gate stays shut until its answer has been taken in."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from .entrant import Inside
from .futures import PendingAnswer
from .input_gate import InputGate

T = TypeVar("T")


class StorageWait(PendingAnswer[T]):
    """An answer of the storage that is not there yet.

    With *holds* the object's input gate is held from now until the answer has come and, if a task
    waits for it, until that task has taken its step: what it read cannot be overtaken.
    """

    __slots__ = ("_gate", "_holds")

    def __init__(self, gate: InputGate[Any], *, holds: bool) -> None:
        super().__init__(gate.loop)
        self._gate = gate
        self._holds = holds
        if holds:
            gate.hold()

    def finish(self, value: T) -> None:
        """Give the answer. Called on the loop's thread, in no object's turn."""
        self.resolve(value)
        self._let_go()

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self._let_go()

    def _let_go(self) -> None:
        if self._holds:
            self._holds = False
            self._gate.release()

    def __await__(self) -> Generator[Any, Any, T]:
        if self._is_done or not self._holds:
            return (yield from super().__await__())
        # The hold of this task: it outlives the answer's own by the step that takes it in.
        self._gate.hold()
        try:
            self._gate.inside = Inside.STORAGE
            return (yield from super().__await__())
        finally:
            self._gate.release()
