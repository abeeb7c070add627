"""Streams: what an object's generator yields, handed to a consumer outside of it one by one.

The generator runs in its own object and nowhere else: each item is made in a turn of that object,
when the consumer asks for it, copied, and heard when what the object wrote before it is on disk.

Rule: a consumer that leaves ends the generator, wherever it stands. At its `yield` it gets
GeneratorExit; while it makes an item, what it waits for is cancelled, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Generic, Protocol, TypeVar

from attrs import define, field

from durable._gates.delivery import CURRENT, Delivery
from durable._gates.futures import Answer, PendingAnswer, ReadyAnswer, when_done
from durable._gates.saying import let_go, say
from durable._loop.loop import Loop, Task
from durable._model.errors import WrongLoop
from durable._object.deadlocks import section_awaits
from durable._object.invocation import Invocation

from .by_reference import ByReference

T = TypeVar("T")


class _Item(PendingAnswer[T]):
    """One item that was asked for."""

    __slots__ = ("asker",)

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.asker: Delivery[Any] | None = None


class Streaming(Invocation[None]):
    """The delivery of a generator: what is awaited of it are its items."""

    __slots__ = ("pipe",)

    pipe: Pipe

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        pipe = self.pipe
        if not pipe.asked and not pipe.is_closed:
            if pipe.coming is None:
                pipe.coming = _Item(pipe.loop)
            yield self, pipe.coming
        for item in pipe.asked:
            if item.asker is not None:
                yield item.asker, item


class Source(Protocol):
    """What a stream asks for its items: a `Pipe`, or what leads to one of another process."""

    loop: Loop
    is_closed: bool

    def ask(self) -> PendingAnswer[Any]:
        """Ask for one more item."""
        raise NotImplementedError

    def close(self) -> Answer[None]:
        """No more items will be asked for. The answer comes when the generator has ended."""
        raise NotImplementedError


@define(eq=False)
class Pipe:
    """What a generator and its consumer share: the items asked for, and how it ended."""

    loop: Loop
    asked: deque[_Item[Any]] = field(factory=deque, init=False)
    # The next one, if it is to be known when that is awaited.
    coming: _Item[Any] | None = field(default=None, init=False)
    # Items that are made, and wait to be heard.
    _leaving: set[PendingAnswer[Any]] = field(factory=set, init=False)
    # Where the generator waits to be asked.
    _idle: PendingAnswer[None] | None = field(default=None, init=False)
    # The task in which the generator makes an item.
    _maker: Task | None = field(default=None, init=False)
    _has_begun: bool = field(default=False, init=False)
    is_closed: bool = field(default=False, init=False)
    _end: BaseException | None = field(default=None, init=False)
    # Of a generator that was closed: that it has ended.
    _over: PendingAnswer[None] | None = field(default=None, init=False)

    def ask(self) -> PendingAnswer[Any]:
        """Ask for one more item."""
        item = _Item[Any](self.loop) if self.coming is None else self.coming
        self.coming = None
        item.asker = CURRENT.get()
        if self._end is not None:
            item.fail(_raised_anew(self._end))
        else:
            self.asked.append(item)
            self.stir()
            if item.asker is not None and item.asker.is_section:
                section_awaits(item.asker, item)
        return item

    def stir(self) -> None:
        """Let the generator look again whether it is asked, or closed."""
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.resolve(None)

    def close(self) -> Answer[None]:
        """No more items will be asked for. The answer comes when the generator has ended, if it has
        begun."""
        if not self.is_closed:
            self.is_closed = True
            if self._has_begun and self._end is None:
                self._over = PendingAnswer(self.loop)
            self.finish(StopAsyncIteration())
            self.stir()
            if self._maker is not None:
                self._maker.cancel()
        return ReadyAnswer(None) if self._over is None else self._over

    def ended(self, error: BaseException | None) -> None:
        """The generator has ended, with *error* if that is not None."""
        self.finish(StopAsyncIteration() if error is None else error)
        if self._over is None:
            return
        if error is None:
            self._over.resolve(None)
        else:
            self._over.fail(error)

    def finish(self, end: BaseException) -> None:
        """No more items will come: those that were asked for, and later ones, get *end*."""
        if self._end is None:
            self._end = end
            for item in [*self._leaving, *self.asked]:
                item.fail(_raised_anew(end))
            self._leaving.clear()
            self.asked.clear()

    async def pump(
        self,
        items: AsyncIterator[Any],
        export: Callable[[Any], Any],
        invocation: Invocation[Any] | None,
    ) -> None:
        """Make each item that is asked for, until one side ends it. Runs where *items* belongs.

        One frame has the items and no other, so that they are abandoned with it.
        """
        self._has_begun = True
        try:
            try:
                while not self.is_closed:
                    if not self.asked:
                        self._idle = PendingAnswer(self.loop)
                        if invocation is not None:
                            let_go(invocation)
                        await self._idle
                        continue
                    self._maker = self.loop.own_task()
                    try:
                        item = export(await items.__anext__())
                    except StopAsyncIteration:
                        return
                    finally:
                        self._maker = None
                    if self.asked:  # else it was closed while the item was made
                        self._answer(self.asked.popleft(), item, invocation)
            finally:
                close = getattr(items, "aclose", None)
                if close is not None:
                    await close()
        except BaseException as error:
            # No scope of its own is around the items, to distinguish its own cancellation from
            # others: a generator may yield inside of scopes that it has opened itself.
            if not (self.is_closed and _is_cancellation(self.loop, error)):
                raise

    def _answer(
        self, asked: PendingAnswer[Any], item: Any, invocation: Invocation[Any] | None
    ) -> None:
        if invocation is None:
            asked.resolve(item)
        else:
            self._leaving.add(asked)

            def heard() -> None:
                self._leaving.discard(asked)
                asked.resolve(item)

            say(invocation, heard)


def _raised_anew(end: BaseException) -> BaseException:
    """What one of the items that will not come gets: the usual end has no traceback to share."""
    return StopAsyncIteration() if type(end) is StopAsyncIteration else end


def _is_cancellation(loop: Loop, error: BaseException) -> bool:
    """Whether *error* is a cancellation, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(loop, each) for each in error.exceptions)
    return loop.is_cancellation(error)


class Stream(AsyncIterator[T], ByReference, Generic[T]):
    """What a call of an async generator method returns: consume it with `async for`, once.

    Leaving it ends the generator: by `aclose()`, by dropping the stream, or by giving up the
    wait for an item, as Python's own generators end when that is cancelled. To give an item a time
    limit and go on, let a task wait for it: `asyncio.wait([task], timeout=15)`.
    """

    __slots__ = ("__weakref__", "_pipe")

    def __init__(self, pipe: Source) -> None:
        self._pipe = pipe

    def __anext__(self) -> Answer[T]:
        self._check_here()
        return _Next(self)

    def _check_here(self) -> None:
        if not self._pipe.loop.is_here():
            raise WrongLoop(repr(self))

    def aclose(self) -> Answer[None]:
        """End the generator, in a turn of its object: at its `yield` it gets GeneratorExit; while
        it makes an item, what it waits for is cancelled.

        Awaited, it waits until the generator has ended, and raises what that raises.
        """
        self._check_here()
        return self._pipe.close()

    def _leave(self) -> None:
        """Close it, from wherever."""
        pipe = self._pipe
        if not pipe.is_closed:
            if pipe.loop.is_here():
                pipe.close()
            else:
                pipe.loop.call_soon_threadsafe(pipe.close)

    __del__ = _leave


class _Next(Answer[T]):
    """The answer that brings one item.

    It keeps its stream, and the pipe does not keep it: a stream ends when no reference
    to it is left, and a wait for an item is one.
    """

    __slots__ = ("_item", "_stream")

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._item: PendingAnswer[T] = stream._pipe.ask()

    @property
    def is_done(self) -> bool:
        return self._item.is_done

    def __await__(self) -> Generator[Any, Any, T]:
        item = self._item
        if not item.is_done:
            let_go(CURRENT.get())  # the call that makes the items, among others
        try:
            return (yield from item.__await__())
        except BaseException:
            if not item.is_done or item.error is None:  # the wait was cancelled
                self._stream._leave()
            raise
        finally:
            # The traceback holds this frame, which holds the stream, which holds the error.
            del self, item


def source_of(stream: Stream[Any]) -> Source:
    """Where the items of *stream* come from."""
    return stream._pipe


def end_with(pipe: Pipe, invocation: Invocation[Any]) -> None:
    """Let the stream end as the delivery of its generator does."""
    when_done(invocation, lambda: pipe.ended(invocation.error))
