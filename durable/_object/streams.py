"""Streams: what an object's generator yields, handed to a consumer outside of it one by one.

The generator runs in its own object and nowhere else: each item is made in a turn of that object,
when the consumer asks for it, copied, and heard when what the object wrote before it is on disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from attrs import define, field

from durable._gates.answers import Answer, Later, Ready, when_done
from durable._loop.loop import Loop

from .by_reference import ByReference
from .events import Event

T = TypeVar("T")


class Question(Later[T]):
    """The answer that brings one item. It keeps its stream, which ends when nobody has it."""

    __slots__ = ("stream",)

    stream: Stream[T]


@define(eq=False)
class Channel:
    """What a generator and its consumer share: the questions asked, and how it ended."""

    loop: Loop
    _asked: deque[Question[Any]] = field(factory=deque, init=False)
    # Questions whose items are made, and wait to be heard.
    _leaving: set[Question[Any]] = field(factory=set, init=False)
    # Where the generator waits to be asked.
    _idle: Later[None] | None = field(default=None, init=False)
    is_closed: bool = field(default=False, init=False)
    _end: BaseException | None = field(default=None, init=False)
    # Of a generator that was closed at its `yield`: that it has ended.
    _over: Later[None] | None = field(default=None, init=False)

    def ask(self) -> Question[Any]:
        """One more item, please."""
        answer = Question[Any](self.loop)
        if self._end is not None:
            answer.fail(self._end)
        else:
            self._asked.append(answer)
            self.stir()
        return answer

    def stir(self) -> None:
        """Let the generator look again whether it is asked, or closed."""
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.resolve(None)

    def close(self) -> Answer[None]:
        """No more questions will come. Answers when a generator that stands at a `yield` has ended.

        One that is making an item, for a consumer that has given up, may take for ever over it.
        """
        if not self.is_closed:
            self.is_closed = True
            if self._idle is not None and self._end is None:
                self._over = Later(self.loop)
            self.finish(StopAsyncIteration())
            self.stir()
        return Ready(None) if self._over is None else self._over

    def ended(self, error: BaseException | None) -> None:
        """The generator has ended, with *error* if that is not None."""
        self.finish(error or StopAsyncIteration())
        if self._over is None:
            return
        if error is None:
            self._over.resolve(None)
        else:
            self._over.fail(error)

    def finish(self, end: BaseException) -> None:
        """No more answers will come: the open questions, and later ones, get *end*."""
        if self._end is None:
            self._end = end
            for question in [*self._leaving, *self._asked]:
                question.fail(end)
            self._leaving.clear()
            self._asked.clear()

    async def pump(
        self, items: AsyncIterator[Any], export: Callable[[Any], Any], event: Event[Any] | None
    ) -> None:
        """Make an item for each question, until one side ends it. Runs where *items* belongs."""
        try:
            while True:
                if not self._asked:
                    if self.is_closed:
                        return
                    self._idle = Later(self.loop)
                    await self._idle
                    continue
                try:
                    item = export(await items.__anext__())
                except StopAsyncIteration:
                    return
                if not self._asked:
                    return  # closed while the item was made
                self._answer(self._asked.popleft(), item, event)
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _answer(self, question: Question[Any], item: Any, event: Event[Any] | None) -> None:
        if event is None:
            question.resolve(item)
        else:
            self._leaving.add(question)

            def heard() -> None:
                self._leaving.discard(question)
                question.resolve(item)

            output = event.gate.output
            output.when_durable(output.ticket(), heard)


class Stream(AsyncIterator[T], ByReference, Generic[T]):
    """What an async generator method answers: consume it with `async for`, once.

    `aclose()`, or dropping it, ends the generator.
    """

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __anext__(self) -> Answer[T]:
        question = self._channel.ask()
        question.stream = self
        return question

    def aclose(self) -> Answer[None]:
        """End the generator: at its `yield` it gets GeneratorExit, in a turn of its object.

        Awaited, it waits until the generator has ended, and raises what that raises, unless an item
        is being made: then the generator ends after it.
        """
        return self._channel.close()

    def __del__(self) -> None:
        channel = self._channel
        if not channel.is_closed:
            if channel.loop.is_here():
                channel.close()
            else:
                channel.loop.call_soon_threadsafe(channel.close)


def end_with(channel: Channel, event: Event[Any]) -> None:
    """Let the stream end as the delivery of its generator does."""
    when_done(event, lambda: channel.ended(event.error))
