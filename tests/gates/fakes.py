"""A loop that a test turns by hand, and deliveries that have no coroutine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import Context
from threading import get_ident
from typing import Any

from attrs import define, field

from durable._gates.critical_section import Section
from durable._gates.delivery import Delivery
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate


@define(eq=False)
class HandLoop:
    """Only `call_soon`, as far as the gates need a loop; a round is run when the test says so."""

    soon: deque[Callable[[], None]] = field(factory=deque)
    thread: int = field(factory=get_ident)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def run(self) -> int:
        """Run rounds until nothing is left to do; answers how many it took."""
        rounds = 0
        while self.soon:
            rounds += 1
            assert rounds < 1_000, "the gate goes round for ever"
            self.run_round()
        return rounds

    def run_round(self) -> None:
        for _ in range(len(self.soon)):
            self.soon.popleft()()


@define(eq=False)
class HandWaker:
    """Notes that it was woken."""

    woken: Callable[[], None]
    _done: bool = False

    def done(self) -> bool:
        return self._done

    def wake(self) -> None:
        if not self._done:
            self._done = True
            self.woken()

    def __await__(self) -> Any:
        raise AssertionError("nobody waits in these tests")


@define(eq=False)
class Bench:
    """A gate, and who was let in by it."""

    loop: HandLoop = field(factory=HandLoop)
    output: OutputGate = field(factory=OutputGate)
    let_in: list[str] = field(factory=list)
    sealed: int = 0
    gate_class: type[InputGate[Any]] = InputGate
    gate: InputGate = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.gate = self.gate_class(self.loop, self.output, self, self._start)  # type: ignore[arg-type]

    def seal(self) -> None:
        self.sealed += 1
        self.output.seal()

    def _start(self, delivery: Delivery[Any]) -> None:
        delivery.tasks = 1
        self.let_in.append(delivery.label)

    def delivery(self, label: str, parent: Delivery[Any] | None = None) -> Delivery[Any]:
        return Delivery(self.gate, lambda: None, Context(), label, parent)

    def arrive(self, label: str) -> Delivery[Any]:
        """A new event comes."""
        delivery = self.delivery(label)
        if self.gate.enter_nowait(delivery):
            self._start(delivery)
        else:
            self.gate.queue(delivery)
        return delivery

    def wait_outside(self, delivery: Delivery[Any], *, is_bare: bool = False) -> None:
        """Its only task waits, and not for the storage."""
        self.gate.suspended(delivery, is_bare=is_bare)

    def resume(
        self, delivery: Delivery[Any], *, task: str | None = None, from_inside: bool = False
    ) -> None:
        """What its first task waited for has come, or another one that is called *task*."""
        delivery = delivery.home
        label = delivery.label if task is None else task
        if self.gate.resume_nowait(delivery, from_inside):
            self.let_in.append(label)
        else:
            waker = HandWaker(lambda: self.let_in.append(label))
            self.gate.queue_resumption(delivery, waker)

    def leave(self, delivery: Delivery[Any], awaiting: Delivery[Any] | None = None) -> None:
        """Its handler has ended; it is a section that *awaiting* awaits, if that is not None."""
        delivery.tasks -= 1
        following = self.gate.leave(delivery, awaiting)
        if following is not None:
            self._start(following)

    def section(self, label: str, parent: Delivery[Any]) -> Delivery[Any]:
        section: Section[None] = Section(self.gate, lambda: None, Context(), parent)
        section.label = label
        self.gate.add_section(section)
        return section
