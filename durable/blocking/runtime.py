"""The runtime and its namespaces, for threads that wait."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import durable
from durable.observing import Observer

from .crossing import outward
from .loop_thread import LoopThread
from .stub import Stub

T = TypeVar("T", bound=durable.DurableObject)

OBJECTS_PER_HOP = 256

Objects = AsyncGenerator[durable.StoredObject, None]


class Namespace(Generic[T]):
    """Hands out the ids and stubs of one class, as `durable.Namespace`, without `await`."""

    def __init__(self, thread: LoopThread, inner: durable.Namespace[T]) -> None:
        self._thread = thread
        self._inner = inner

    @property
    def cls(self) -> type[T]:
        """The class, as its code is now."""
        return self._inner.cls

    @property
    def unique_key(self) -> str:
        """What the ids of this class are derived from."""
        return self._inner.unique_key

    def id_from_name(self, name: str) -> durable.ObjectId:
        """The id of the object called *name*; always the same one."""
        return self._inner.id_from_name(name)

    def new_unique_id(self) -> durable.ObjectId:
        """The id of an object that was never addressed before."""
        return self._inner.new_unique_id()

    def id_from_string(self, hex: str) -> durable.ObjectId:
        """The id whose `str()` is *hex*; InvalidId if it is none, or one of another class."""
        return self._inner.id_from_string(hex)

    def get(self, id: durable.ObjectId) -> Stub[T]:
        """A stub of the object *id*."""
        return Stub(self._thread, self._inner.get(id))

    def get_by_name(self, name: str) -> Stub[T]:
        """A stub of the object called *name*."""
        return Stub(self._thread, self._inner.get_by_name(name))

    def delete(self, id: durable.ObjectId) -> None:
        """Delete all that the object *id* has stored; returns when that is on disk."""
        self._thread.ask(self._inner.delete, id)

    def objects(self, prefix: str | None = None) -> Iterator[durable.StoredObject]:
        """The objects that have a stored key or an alarm, in the order of their ids; with *prefix*,
        those whose name begins with it."""
        listing = cast("Objects", self._inner.objects(prefix))
        try:
            while some := cast("list[durable.StoredObject]", self._thread.ask(_some, listing)):
                yield from some
        finally:
            with suppress(durable.DurableError):  # dropped where it cannot wait
                self._thread.ask(listing.aclose)

    def __repr__(self) -> str:
        return f"<blocking {repr(self._inner).strip('<>')}>"


async def _some(listing: Objects) -> list[durable.StoredObject]:
    found = []
    async for stored in listing:
        found.append(stored)
        if len(found) == OBJECTS_PER_HOP:
            break
    return found


class Runtime:
    """An open store for threads that wait: `namespace(cls)` gives the objects of a class.

    As `durable.Runtime`, without `await`, and from any thread but that of its own event loop. A
    context manager that closes the store; what is open when the program ends is closed then.
    """

    def __init__(
        self, thread: LoopThread, inner: durable.Runtime, forget: Callable[[Runtime], None]
    ) -> None:
        self._thread = thread
        self._inner = inner
        self._forget = forget
        self._env = durable.Env({name: outward(thread, value) for name, value in inner.env.items()})

    @property
    def env(self) -> Any:
        """The bindings' namespaces and the variables, by attribute."""
        return self._env

    def namespace(self, cls: type[T]) -> Namespace[T]:
        """The objects of *cls*; registers the class in the store if it is new there."""
        return Namespace(self._thread, self._thread.ask(self._inner.namespace, cls))

    def statistics(self) -> durable.Statistics:
        """What the runtime is doing, and has done since it was opened."""
        return cast("durable.Statistics", self._thread.ask(self._inner.statistics))

    def peers(self) -> list[durable.PeerProcess]:
        """The processes that have the store open, this one too; one if it is not shared."""
        return cast("list[durable.PeerProcess]", self._thread.ask(self._inner.peers))

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call *observer* with each event from now on, in the thread of the event loop, which it
        must not block; returns a function that ends that."""
        ends: Callable[[], None] = self._thread.ask(self._inner.observe, observer)
        return lambda: self._thread.ask(ends)

    def replace(self, old: type[durable.DurableObject], new: type[durable.DurableObject]) -> None:
        """Run *new*, a later version of the class *old*, for its objects from now on."""
        self._thread.ask(self._inner.replace, old, new)

    def close(self) -> None:
        """Close the store: let running handlers end for `Limits.shutdown_s_max` seconds, and commit
        what was written. Closing again does nothing."""
        self._thread.close()
        self._forget(self)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<blocking {repr(self._inner).strip('<>')}>"
