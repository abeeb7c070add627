"""The calls to other processes that are more than a value and an answer: `fetch`, async generators,
functions, and questions between processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from durable._border.fetch_call import FETCH_SLOTS, FetchAnswer
from durable._engine.codec import decode
from durable._gates.delivery import CURRENT, Delivery
from durable._gates.futures import Answer, PendingAnswer
from durable._model.errors import WrongLoop
from durable._model.messages import Response

from .calls import Called, Calls, FarCall, say_call
from .crossing import Crossing, write_arguments
from .frames import Kind
from .reading import Readers
from .streams import Decode, FarSource


class FarFetch(FetchAnswer, FarCall[Response]):
    """A call of `fetch`, and its answer."""

    __slots__ = (*FETCH_SLOTS, "_calls", "_number")

    _calls: Calls
    _number: int

    def left(self, calls: Calls, number: int) -> None:
        self._calls, self._number = calls, number
        if self.request._signal is not None and self.request.signal.aborted:
            calls.abort(number)

    def read(self, readers: Readers, encoded: bytes) -> Response:
        return readers.of(self.target.class_number).response(encoded)

    def abort(self) -> None:
        super().abort()
        if hasattr(self, "_calls"):
            self._calls.abort(self._number)


class StreamCall(FarCall[None]):
    """A call of an async generator: what can be awaited of it are its items."""

    __slots__ = ("source",)

    source: FarSource

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        yield from self.source.awaited()

    def left(self, calls: Calls, number: int) -> None:
        calls.streams.read(number, self.source, self.decoder(calls.readers))

    def came_back(self, calls: Calls, number: int) -> None:
        calls.streams.forget(number)

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        self.source.ended(error)
        self.source.left(None)


@frozen
class NoObject(Called):
    """Stands for the object where a call goes to none."""

    class_number: int
    label: str
    id_text: str | None = None


class Invoker:
    """Calls the functions of the other side of a link."""

    def __init__(self, crossing: Crossing, calls: Calls) -> None:
        self._crossing = crossing
        self._calls = calls

    def __call__(
        self,
        class_number: int,
        number: int,
        label: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Answer[Any]:
        services = self._crossing.services
        if not services.loop.is_here():
            raise WrongLoop(f"<remote function {label} of another process>")
        written = write_arguments(self._crossing, class_number, label, args, kwargs)
        target = NoObject(class_number, "another process")
        call: FarCall[Any] = FarCall(
            services.loop, target, Kind.INVOKE, label, (written,), CURRENT.get()
        )
        say_call(services, call, lambda call: self._calls.send_or_fail(call, number))
        return call


class Question(FarCall[Any]):
    """What one process asks another by name, about no object."""

    __slots__ = ()

    def decoder(self, readers: Readers) -> Decode:
        return decode

    def read(self, readers: Readers, encoded: bytes) -> Any:
        return decode(encoded)
