"""Streams between processes: the items of an async generator, the chunks of a body.

The side that reads asks for items, by number; the side that has the stream makes as many, in turns
of the object that it belongs to, and sends each when that object's output gate lets it out. An item
of a generator is requested when its consumer asks for it. Chunks of a body are requested ahead,
once the first has been read, up to `AHEAD_MAX` of them and `AHEAD_BYTES_MAX`, so that a body does
not wait for a round trip for each chunk.

Rule: a stream has a name on its link, the number of the call that made it or, below zero, that of
the thing. It ends once: by END of the side that has it, or LEAVE of the side that reads it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from weakref import ref

from durable._border.streams import Source, Stream, source_of
from durable._gates.delivery import CURRENT, Delivery
from durable._gates.futures import Answer, PendingAnswer, ReadyAnswer, when_done
from durable._loop.loop import Loop
from durable._model.errors import DurableError, ObjectUnreachable
from durable._object.deadlocks import section_awaits

from .failures import from_failure, to_failure
from .frames import BadFrame, Kind
from .link import Link
from .things import LinkThings, Written

AHEAD_MAX = 16
AHEAD_BYTES_MAX = 1_048_576
WANTED_AT_ONCE_MAX = 1_024

Decode = Callable[[bytes], Any]


class _Item(PendingAnswer[Any]):
    """One item that was asked for."""

    __slots__ = ("asker",)

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self.asker: Delivery[Any] | None = None


class FarSource(Source):
    """The source of a stream in another process; *label* says what it is in an error."""

    def __init__(
        self,
        loop: Loop,
        label: str = "a stream of another process",
        object_id: str | None = None,
        *,
        is_body: bool = False,
    ) -> None:
        self.loop = loop
        self._label = label
        self._object_id = object_id
        self.is_closed = False
        self._is_body = is_body
        self._asked: deque[_Item] = deque()
        # The next item, if code awaits it or will; and the code that has asked last.
        self._coming: _Item | None = None
        self._last_asker: Delivery[Any] | None = None
        # Chunks that came before they were asked for.
        self._ahead: deque[Any] = deque()
        self._ahead_bytes = 0
        self._ahead_max = 0
        # Items requested from the other side that have not come.
        self._wanted = 0
        self._end: BaseException | None = None
        self._over: PendingAnswer[None] | None = None
        # Set while the stream stands on a link.
        self._streams: Streams | None = None
        self._name = 0

    def bind(self, streams: Streams, name: int) -> None:
        """The stream is *name* on the link of *streams*; it may have been on another before."""
        self._streams, self._name = streams, name
        streams.reading[name] = self
        self._wanted = 0
        if self.is_closed:
            streams.link.send(Kind.LEAVE, name)
        else:
            self._want()

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        """What code of objects may await of it, with the delivery whose code does."""
        if not self._asked and not self.is_closed and self._last_asker is not None:
            if self._coming is None:
                self._coming = _Item(self.loop)
            yield self._last_asker, self._coming
        for item in self._asked:
            if item.asker is not None:
                yield item.asker, item

    def ask(self) -> PendingAnswer[Any]:
        item: _Item = _Item(self.loop) if self._coming is None else self._coming
        self._coming = None
        item.asker = self._last_asker = CURRENT.get()
        if self._ahead:
            chunk = self._ahead.popleft()
            self._ahead_bytes -= _size(chunk)
            item.resolve(chunk)
        elif self._end is not None:
            item.fail(_anew(self._end))
            return item
        else:
            self._asked.append(item)
            if item.asker is not None and item.asker.is_section:
                section_awaits(item.asker, item)
        self._want()
        return item

    def _want(self) -> None:
        if self._streams is None or self._end is not None:
            return
        wanted = len(self._asked)
        if self._is_body and self._ahead_bytes < AHEAD_BYTES_MAX:
            wanted = max(wanted, self._ahead_max - len(self._ahead))
        more = min(wanted - self._wanted, WANTED_AT_ONCE_MAX)
        if more > 0:
            self._wanted += more
            self._streams.link.send(Kind.WANT, self._name, more)

    def came(self, item: Any) -> None:
        """The next item has come."""
        if self._wanted <= 0:
            raise BadFrame("an item that was not asked for")
        self._wanted -= 1
        self._ahead_max = min(AHEAD_MAX, self._ahead_max * 2 + 1)
        if self._asked:
            self._asked.popleft().resolve(item)
        elif not self.is_closed:
            self._ahead.append(item)
            self._ahead_bytes += _size(item)
        self._want()

    def close(self) -> Answer[None]:
        if not self.is_closed:
            self.is_closed = True
            is_over = self._end is not None
            self.ended(StopAsyncIteration())
            self._ahead.clear()
            if not is_over:
                self._over = PendingAnswer(self.loop)
                if self._streams is not None:
                    self._streams.link.send(Kind.LEAVE, self._name)
                    if self._streams.link.is_gone:
                        self._over.resolve(None)
        return ReadyAnswer(None) if self._over is None else self._over

    def left(self, error: BaseException | None) -> None:
        """The other side has ended the stream, as it was asked to."""
        if self._over is not None:
            if error is None:
                self._over.resolve(None)
            else:
                self._over.fail(error)

    def lost(self, why: str) -> None:
        """The link is gone, and with it the rest of the stream."""
        self.ended(
            ObjectUnreachable(
                f"{self._label} broke off, since its process cannot be reached: {why}; items that "
                f"have not come may have been made",
                object_id=self._object_id,
            )
        )
        self.left(None)

    def ended(self, end: BaseException) -> None:
        """No more items will come: those that were asked for, and later ones, get *end*."""
        if self._end is None:
            self._end = end
            asked, self._asked = self._asked, deque()
            for item in asked:
                item.fail(_anew(end))


class Streams:
    """The streams of one link, in both directions."""

    def __init__(self, link: Link, things: LinkThings) -> None:
        self.link = link
        self._things = things
        # The streams that are read here, and how their items are decoded.
        self.reading: dict[int, FarSource] = {}
        self.decoders: dict[int, Decode] = {}
        # The streams in use here for things of the other side.
        self._known: dict[int, ref[Stream[Any]]] = {}
        # The streams of calls that the other side reads.
        self._served: dict[int, Served] = {}
        # Called when the stream of a call is over.
        self.on_call_over: Callable[[int], None] = lambda _: None
        # Encodes an item of a thing, for a class.
        self.write: Callable[[int, Any], bytes | Written]
        link.on[Kind.WANT] = self._want
        link.on[Kind.ITEM] = self._item
        link.on[Kind.END] = self._end
        link.on[Kind.LEAVE] = self._leave
        link.on[Kind.LEFT] = self._left
        link.on_gone.append(self._lost)

    # Reading

    def read(self, name: int, source: FarSource, decode: Decode) -> None:
        """*source* reads the stream *name* of the other side."""
        self.decoders[name] = decode
        source.bind(self, name)

    def stream_of(self, number: int, decode: Decode, *, is_body: bool) -> Stream[Any]:
        """The stream for a thing of the other side; the same one if that comes again."""
        name = -number
        known = self._known.get(name)
        stream = None if known is None else known()
        if stream is None:
            source = self.reading.get(name)
            if source is None:
                source = FarSource(self.link.loop, is_body=is_body)
                self.read(name, source, decode)
            stream = Stream[Any](source)
            self._known[name] = ref(stream)
        return stream

    def _item(self, frame: list[Any]) -> None:
        name = frame[1]
        try:
            item = self.decoders[name](frame[2])
        except DurableError as error:
            source = self.reading[name]
            source.close()
            source.ended(error)
        else:
            self.reading[name].came(item)

    def _end(self, frame: list[Any]) -> None:
        _, name, failure, *_ = frame
        source = self.reading.get(name)
        if source is not None:
            source.ended(
                StopAsyncIteration()
                if failure is None
                else from_failure(failure, self.decoders[name])
            )
            if not source.is_closed:  # else LEFT comes
                self.forget(name)
        if name > 0:
            self.on_call_over(name)

    def _left(self, frame: list[Any]) -> None:
        _, name, failure, *_ = frame
        source = self.reading[name]
        source.left(None if failure is None else from_failure(failure, self.decoders[name]))
        self.forget(name)

    def forget(self, name: int) -> None:
        """The stream *name* of the other side is over, as both sides know."""
        del self.reading[name], self.decoders[name]
        self._known.pop(name, None)

    def _lost(self, why: str) -> None:
        reading, self.reading = self.reading, {}
        for source in reading.values():
            source.lost(why)
        served, self._served = self._served, {}
        for stream in served.values():
            stream.source.close()

    # Serving

    def serve(self, name: int, source: Source, encode: Callable[[Any], bytes]) -> None:
        """The other side may read *source* as *name*; its items are encoded already, and *encode*
        encodes a failure."""
        self._served[name] = Served(source, None, encode)

    def over(self, name: int, error: BaseException | None) -> None:
        """The stream of a call is over: notify the other side."""
        served = self._served.pop(name, None)
        if served is not None:
            failure = None if error is None else to_failure(error, served.encode)
            self.link.send(Kind.END, name, failure)

    def _served_by(self, name: Any) -> Served | None:
        served = self._served.get(name)
        if served is None and name < 0 and self._things.has(-name):
            thing = self._things.own(-name)
            number = thing.class_number
            if not isinstance(thing.value, Stream):
                raise BadFrame("what is read is not a stream")

            def write(item: Any) -> bytes | Written:
                return self.write(number, item)

            def plain(value: Any) -> bytes:
                written = write(value)
                if not isinstance(written, bytes):
                    raise TypeError("no plain value")
                return written

            served = self._served[name] = Served(source_of(thing.value), write, plain)
        return served

    def _want(self, frame: list[Any]) -> None:
        _, name, count, *_ = frame
        served = self._served_by(name)
        if not 0 < count <= WANTED_AT_ONCE_MAX:
            raise BadFrame(f"{count!r} items are asked for at once")
        for _ in range(count if served is not None else 0):
            assert served is not None
            item = served.source.ask()
            when_done(item, lambda item=item: self._made(name, served, item))  # type: ignore[misc]

    def _made(self, name: int, served: Served, item: PendingAnswer[Any]) -> None:
        if self._served.get(name) is not served:
            return
        error = item.error
        if error is None:
            try:
                value = item._value
                written = value if served.write is None else served.write(value)
                self.link.send(Kind.ITEM, name, self._things.sent(written))
                return
            except Exception as refused:
                error = refused
                served.source.close()
        if name < 0:
            self.over(name, None if isinstance(error, StopAsyncIteration) else error)
            self._things.give_back(-name)

    def _leave(self, frame: list[Any]) -> None:
        name = frame[1]
        served = self._served_by(name)
        if served is None:
            self.link.send(Kind.LEFT, name, None)
            return
        answer = served.source.close()
        if name < 0:
            self._served.pop(name, None)

        def left() -> None:
            error = answer.error if isinstance(answer, PendingAnswer) else None
            failure = None if error is None else to_failure(error, served.encode)
            self.link.send(Kind.LEFT, name, failure)
            if name < 0:
                self._things.give_back(-name)

        if isinstance(answer, PendingAnswer):
            when_done(answer, left)
        else:
            left()


class Served:
    """A stream of this process that the other side reads."""

    __slots__ = ("encode", "source", "write")

    def __init__(
        self,
        source: Source,
        write: Callable[[Any], bytes | Written] | None,
        encode: Callable[[Any], bytes],
    ) -> None:
        self.source = source
        # Encodes an item; None where the items are encoded already.
        self.write = write
        self.encode = encode


def _size(chunk: Any) -> int:
    return len(chunk) if isinstance(chunk, bytes) else 0


def _anew(end: BaseException) -> BaseException:
    """The error of one item that will not come: a plain end has no traceback to share."""
    return StopAsyncIteration() if type(end) is StopAsyncIteration else end
