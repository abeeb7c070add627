"""The running code of one object: its tasks, their deliveries, and what stops them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Generic, NoReturn

from attrs import define, field

from durable._loop import here
from durable._loop.loop import Loop
from durable._model.errors import DurableError, WrongLoop

from .ending import Ending, Stopped
from .entrant import CURRENT_ENTRANT, E
from .futures import PendingAnswer

NO_THREAD: Final = -1


@define(eq=False, slots=True)
class RunningCode(Generic[E]):
    """The tasks that run code of one object, and why no more of it runs once it is broken."""

    loop: Loop

    # The thread whose code may use the object: the loop's, and none once it is broken. So what a
    # use has to be sure of is one comparison.
    thread: int = field(init=False)
    # The delivery of each task, a first task before the others; None rather than empty, which an
    # idle object has room for a hundred times.
    _running: dict[Any, E] | None = field(default=None, init=False)
    # For tasks that were started by others, how deep they stand under these.
    _depths: dict[Any, int] | None = field(default=None, init=False)
    # Why nothing of it runs any more; and the ending of what ran, if the object was reset.
    broken: DurableError | None = field(default=None, init=False)
    ending: Ending | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.thread = self.loop.thread

    def check(self) -> None:
        """Raise WrongLoop in another thread; the reason if broken, or Stopped in its own code."""
        if here.thread() != self.thread:
            self._refuse_use()

    def _refuse_use(self) -> NoReturn:
        if self.broken is None or here.thread() != self.loop.thread:
            raise WrongLoop("the object")
        raise self.stopped()

    def check_loop(self) -> None:
        """`check`, and WrongLoop on another loop of this thread too; that costs a little more."""
        if not self.loop.is_here():
            raise WrongLoop("the object")
        if self.broken is not None:
            raise self.stopped()

    def stopped(self) -> BaseException:
        """What to raise in code that uses the object after it has broken."""
        assert self.broken is not None
        current = CURRENT_ENTRANT.get()
        if self.ending is None or current is None or current.gate is not self:
            return self.broken.again()
        self.ending.mark_stopped(self.loop.own_task())
        return Stopped(self.ending.reason)

    def refuse(self, stopped: Stopped) -> PendingAnswer[Any]:
        """Raise *stopped*, or return an answer that does: see `Ending.refuse`."""
        assert self.ending is not None
        return self.ending.refuse(stopped)

    def shut_out(self, reason: DurableError) -> None:
        """Refuse every use of the object from now on, with *reason*."""
        self.broken = reason
        self.thread = NO_THREAD

    def break_code(self, reason: DurableError, label: str) -> None:
        """Let no code of the object, called *label*, go on. `ending.begin` stops it."""
        assert self.broken is None
        self.shut_out(reason)
        if self._running is None:
            self._running = {}
        self.ending = Ending(self.loop, self._running, self.depth_of, label, str(reason))

    @property
    def running(self) -> Mapping[Any, E]:
        """The tasks that run code of this object, which a reset cancels, with their deliveries."""
        return self._running or {}

    def task_begins(self, task: Any, delivery: E, depth: int = 0) -> None:
        """*task* runs code of *delivery* from now on."""
        if self._running is None:
            self._running = {task: delivery}
        else:
            self._running[task] = delivery
        if depth:
            if self._depths is None:
                self._depths = {task: depth}
            else:
                self._depths[task] = depth

    def depth_of(self, task: Any) -> int:
        """Under how many of this object's tasks *task* was started."""
        return self._depths.get(task, 0) if self._depths is not None else 0

    def task_ends(self, task: Any) -> None:
        """*task* has no more code of the object to run."""
        running = self._running
        if running is None:
            return
        running.pop(task, None)
        if self._depths is not None:
            self._depths.pop(task, None)
        if self.ending is not None:
            self.ending.task_ended(task)
        elif not running:
            self._depths = self._running = None
