"""A process, simulated: it has its own clock, may be stopped for a while (SIGSTOP, a long pause of
its garbage collector), and may die at any moment (kill -9).

What is to happen in it happens one step at a time, in the order in which it came. While it is
stopped, that waits; once it is dead, it never happens.

It is the loop, the clock and the timers of what runs in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field

from .agenda import Agenda, Entry, Step

# How long one round of its loop takes, while other things arrive.
ROUND_S_MAX = 0.0002
# Timers are no finer than that, so that time goes on whatever is asked for.
TIMER_S_MIN = 1e-6


@define(eq=False)
class Machine:
    """One process."""

    agenda: Agenda
    name: str
    # Its steady clock gains or loses so much: 1.1 is ten seconds in a hundred.
    rate: float = 1.0
    is_dead: bool = field(default=False, init=False)
    is_stopped: bool = field(default=False, init=False)
    # Told when it dies; they happen outside of it.
    on_death: list[Callable[[], None]] = field(factory=list, init=False)
    _waiting: deque[Step] = field(factory=deque, init=False)
    _round_s: float = field(default=0.0, init=False)
    _is_busy: bool = field(default=False, init=False)

    # As the loop, the clock and the timers

    def steady(self) -> float:
        return self.agenda.now_s * self.rate

    def call_soon(self, step: Step) -> None:
        """Let it happen in the next round of the loop, after what was put there before."""
        now_s = self.agenda.now_s
        self._round_s = max(self._round_s, now_s + self.agenda.chance.uniform(0, ROUND_S_MAX))
        self.agenda.after(self._round_s - now_s, lambda: self.do(step))

    def call_later(self, delay_s: float, step: Step) -> Entry:
        """Let it happen when the machine's own clock has gone on by *delay_s*."""
        timer = Entry(step)

        def due() -> None:
            step, timer.step = timer.step, None
            if step is not None:
                step()

        late_s = max(delay_s / self.rate, TIMER_S_MIN)
        self.agenda.after(late_s, lambda: self.do(due))
        return timer

    # From the outside

    def do(self, step: Step) -> None:
        """Let *step* happen in the machine: now, if it runs and does nothing else."""
        if not self.is_dead:
            self._waiting.append(step)
            self._run()

    def _run(self) -> None:
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._waiting and not self.is_stopped:
                self._waiting.popleft()()
        finally:
            self._is_busy = False

    def stop(self) -> None:
        """Let nothing happen in it for a while."""
        self.is_stopped = True

    def go_on(self) -> None:
        """Let happen what has waited."""
        self.is_stopped = False
        self._run()

    def die(self) -> None:
        self.is_dead = True
        self._waiting.clear()
        on_death, self.on_death = self.on_death, []
        for tell in on_death:
            tell()

    def __repr__(self) -> str:
        state = "dead" if self.is_dead else "stopped" if self.is_stopped else "running"
        return f"<Machine {self.name}, {state}>"
