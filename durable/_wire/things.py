"""Things that are passed by reference: functions, streams, signals, web sockets.

The process that has a thing gives it a number and keeps it in a table. It is freed when each
process that it was sent to has dropped it or lost its connection, and no message with it is on its
way any more.

Rule: each place where a number may be kept counts as one hold: bytes that are on their way, and for
each connection what it has brought and not given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar
from weakref import ref

from attrs import define, field

from .frames import BadFrame, Kind
from .link import Link

T = TypeVar("T")


@define(eq=False)
class Thing:
    """One thing, in its own process."""

    value: Any
    # The class by whose declared values its arguments, results and items are encoded.
    class_number: int
    holds: int = 0


@define(eq=False)
class Things:
    """The things of this process that others may have."""

    _things: dict[int, Thing] = field(factory=dict, init=False)
    _numbers: dict[int, int] = field(factory=dict, init=False)
    _last: int = field(default=0, init=False)

    def export(self, value: Any, class_number: int) -> int:
        """The number of *value*, held once more."""
        number = self._numbers.get(id(value))
        if number is None:
            number = self._last = self._last + 1
            self._things[number] = Thing(value, class_number)
            self._numbers[id(value)] = number
        self._things[number].holds += 1
        return number

    def hold(self, numbers: Iterable[int]) -> None:
        """Hold each of *numbers* once more."""
        for number in numbers:
            self._things[number].holds += 1

    def release(self, number: int, times: int = 1) -> None:
        """Hold *number* less often; a thing that is not held any more is freed."""
        thing = self._things[number]
        thing.holds -= times
        if thing.holds <= 0:
            del self._things[number]
            del self._numbers[id(thing.value)]

    def __getitem__(self, number: int) -> Thing:
        return self._things[number]

    def __len__(self) -> int:
        return len(self._things)


class Written:
    """A value as bytes, with the numbers of the things in it, which it holds."""

    __slots__ = ("encoded", "numbers", "things")

    def __init__(self, encoded: bytes, things: Things, numbers: list[int]) -> None:
        self.encoded = encoded
        self.things = things
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.encoded)

    def __del__(self) -> None:
        for number in self.numbers:
            self.things.release(number)


class LinkThings:
    """The things that have been sent and received over one link."""

    def __init__(self, link: Link, things: Things) -> None:
        self.link = link
        self.things = things
        # Own things that the other side has, and how often each was sent.
        self._held: dict[int, int] = {}
        # What follows some of them, by kind, for as long as the other side has them: a signal, a
        # socket. Made in the round after the one in which the thing leaves.
        self.follow: dict[type, Callable[[int, Any], object]] = {}
        self._followers: dict[int, object] = {}
        # Things of the other side that are used here, and how often each came.
        self._imports: dict[int, tuple[ref[Any], int]] = {}
        link.on[Kind.DROP] = self._dropped
        link.on_gone.append(self._lost)

    def sent(self, written: bytes | Written) -> bytes:
        """The bytes of *written*, which leave over the link now."""
        if type(written) is bytes:
            return written
        assert isinstance(written, Written)
        if not self.link.is_gone:
            self.things.hold(written.numbers)
            for number in written.numbers:
                times = self._held.get(number, 0)
                self._held[number] = times + 1
                if not times and type(self.things[number].value) in self.follow:
                    self.link.loop.call_soon(partial(self.begin_to_follow, number))
        return written.encoded

    def begin_to_follow(self, number: int) -> None:
        """The other side has the thing *number*, or will before anything else that is sent."""
        if number in self._held and number not in self._followers:
            value = self.things[number].value
            self._followers[number] = self.follow[type(value)](number, value)

    def take_back(self, written: bytes | Written) -> None:
        """*written* was sent, and the other side has not decoded it."""
        if isinstance(written, Written):
            for number in written.numbers:
                self.give_back(number, 1)

    def own(self, number: Any) -> Thing:
        """The thing of this process that the other side means. Raises BadFrame."""
        if number not in self._held:
            raise BadFrame(f"a thing that was not sent: {number!r}")
        return self.things[number]

    def has(self, number: int) -> bool:
        """Whether the other side has the thing of this process."""
        return number in self._held

    def give_back(self, number: int, times: int | None = None) -> None:
        """The other side has dropped a thing *times* times, or altogether."""
        held = self._held.get(number)
        if held is None:
            return  # its stream was over before
        times = held if times is None else times
        if not 0 < times <= held:
            raise BadFrame(f"a thing is dropped {times} times and was sent {held} times")
        if times == held:
            del self._held[number]
            self._followers.pop(number, None)
        else:
            self._held[number] = held - times
        self.things.release(number, times)

    def imported(self, number: int, make: Callable[[], T]) -> T:
        """What is used here for the thing *number* of the other side, which has come once more."""
        known, count = self._imports.get(number, (None, 0))
        value = None if known is None else known()
        if value is None:
            value = make()
            loop, link = self.link.loop, self.link

            def freed(gone: ref[Any]) -> None:  # in any thread
                if loop.is_here():
                    self._freed(number, gone)
                elif not link.is_gone:
                    loop.call_soon_threadsafe(lambda: self._freed(number, gone))

            known = ref(value, freed)
        self._imports[number] = (known, count + 1)  # type: ignore[assignment]
        return value

    def known(self, number: Any) -> Any:
        """What is used here for a thing of the other side; None if nothing is any more."""
        known, _ = self._imports.get(number, (None, 0))
        return None if known is None else known()

    def _freed(self, number: int, gone: ref[Any]) -> None:
        known, count = self._imports.get(number, (None, 0))
        if known is gone:
            del self._imports[number]
            self.link.send(Kind.DROP, number, count)

    def _dropped(self, frame: list[Any]) -> None:
        self.give_back(frame[1], frame[2])

    def _lost(self, _: str) -> None:
        held, self._held = self._held, {}
        self._imports.clear()
        self._followers.clear()
        for number, times in held.items():
            self.things.release(number, times)

    def __len__(self) -> int:
        return len(self._held) + len(self._imports)
