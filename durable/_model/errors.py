"""The errors, each in the words of the developer or operator who must act.

Rule: a message says what happened, to which thing, and what to do about it; its numbers are
attributes too. Texts that Cloudflare's runtime has are kept, so that they can be searched for.
"""

from __future__ import annotations

import os
from typing import Self

from .database_url import is_url


class DurableError(Exception):
    """The base of every error of this library.

    `retryable`: the same call may succeed if made again.
    `overloaded`: the object has too much to do; wait before calling again.
    `reset`: the object was discarded from memory; a new stub gets a new instance.
    `object_id`: the 64 hex digits of the object it happened to, if one is known.
    """

    retryable: bool = False
    overloaded: bool = False
    reset: bool = False
    object_id: str | None = None

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        overloaded: bool | None = None,
        reset: bool | None = None,
        object_id: str | None = None,
    ) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable
        if overloaded is not None:
            self.overloaded = overloaded
        if reset is not None:
            self.reset = reset
        if object_id is not None:
            self.object_id = object_id

    def again(self) -> DurableError:
        """A copy to raise for one more caller, so that no two callers share one traceback.

        If an author's class refuses to be copied, it is an ObjectReset with this error as its
        cause.
        """
        try:
            return self.copied()
        except Exception:
            return ObjectReset.because_of(self)

    def copied(self) -> Self:
        """A copy; raises what its class raises, if that refuses."""
        copy = self.__class__.__new__(self.__class__)
        fill(copy, arguments_of(self))
        copy.__dict__.update(self.__dict__)
        copy.object_id = self.object_id
        copy.__cause__ = self.__cause__
        copy.__suppress_context__ = self.__suppress_context__
        return copy


def fill(error: BaseException, args: tuple[object, ...]) -> None:
    """Give *error*, which was made without arguments, those that `arguments_of` returned. Its
    built-in base takes them, which may have fields of its own; no code of an author's runs."""
    base = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
    base.__init__(error, *args)  # type: ignore[misc]


def arguments_of(error: BaseException) -> tuple[object, ...]:
    """The arguments to make an equal error with."""
    if isinstance(error, OSError) and error.filename is not None:
        return (error.errno, error.strerror, error.filename, None, error.filename2)
    return error.args


def text_of(error: BaseException) -> str:
    """The text of *error*, even if its class fails to make one."""
    try:
        return str(error)
    except Exception:
        return f"{type(error).__name__}, whose text could not be made"


# The store


class StoreInUse(DurableError):
    """Another process, or another `open` of this one, owns the store.

    `pid` is the owner's; with `is_elsewhere` it is one of another container, or pid namespace, or
    of another machine.
    """

    path: str
    pid: int | None
    is_elsewhere: bool

    def __init__(
        self,
        path: str,
        pid: int | None,
        *,
        is_elsewhere: bool = False,
        where: str = "",
        why_alone: str = "",
    ) -> None:
        owner = "another process" if pid is None else f"process {pid}"
        if where:
            owner += f" {where}"
        elif is_elsewhere:
            owner += " of another container (its pid namespace is not that of this process)"
        if pid == os.getpid() and not is_elsewhere:
            owner += ", which is this one"
        if why_alone:
            what_to_do = (
                f"{why_alone}: end the other processes first, or give `wait_s` if they are about "
                f"to end"
            )
        else:
            share, place = ("`peers`", "database") if is_url(path) else ("shared=True", "folder")
            what_to_do = (
                f"a store has one owner at a time: close it there first, open it with {share} in "
                f"all processes, give `wait_s` if the owner is about to end, as in a reload, or "
                f"open another {place}"
            )
        super().__init__(f"the store {path!r} is in use by {owner}; {what_to_do}", retryable=True)
        self.path, self.pid, self.is_elsewhere = path, pid, is_elsewhere


class StoreDamaged(DurableError):
    """The folder or the database does not contain what a store must contain."""


class FormatTooNew(DurableError):
    """The store was written by a later version of the library."""

    path: str
    version: int
    version_max: int

    def __init__(self, path: str, version: int, version_max: int) -> None:
        super().__init__(
            f"the store {path!r} has format {version}, and this version of durable reads up to "
            f"{version_max}; upgrade durable to open it"
        )
        self.path, self.version, self.version_max = path, version, version_max


class StoreFull(DurableError):
    """The disk, or the room that the store may take on it, is used up. Nothing was confirmed."""

    reset = True


class CommitFailed(DurableError):
    """Writes did not reach the disk; the object was reset and its held messages were not sent."""

    reset = True


class MigrationConflict(DurableError):
    """The migrations given do not follow from those that the store has seen. Nothing changed."""


class InvalidConfig(DurableError, ValueError):
    """A configuration file is invalid. `file`, `table` and `key` say where."""

    file: str
    table: str | None
    key: str | None

    def __init__(self, file: str, table: str | None, key: str | None, what: str) -> None:
        place = [file, f"[{table}]" if table else None, key]
        super().__init__(f"{', '.join(part for part in place if part)}: {what}")
        self.file, self.table, self.key = file, table, key


# Names and classes


class InvalidId(DurableError, ValueError):
    """The text is not an id, or is the id of an object of another class."""


class UnknownClass(DurableError):
    """No class of that name is known to the store or to this program."""


class NoSuchMethod(DurableError, AttributeError):
    """The object's class has no public method of that name."""


# The object's life


class ObjectReset(DurableError):
    """The object was discarded from memory while the call was under way, or before it came."""

    reset = True

    @classmethod
    def because_of(cls, error: BaseException) -> ObjectReset:
        """A reset that has the text of *error*, and *error* as its cause."""
        text = text_of(error)
        reason = cls(text if text else f"{type(error).__name__} in the code of an object")
        reason.__cause__ = error
        return reason


class ObjectAborted(ObjectReset):
    """The object called `ctx.abort()`. What it had not yet committed is gone."""


class ObjectOverloaded(DurableError):
    """The object has more to do than it can; do less per call, or spread over more objects."""

    overloaded = True


class Deadlock(DurableError):
    """A call that could never be delivered: its object waits, directly or through others, for the
    very object that makes the call. `chain` holds the ids on the way round."""

    def __init__(
        self, chain: tuple[str, ...], names: tuple[str, ...], why: str | None = None
    ) -> None:
        super().__init__(
            why
            or f"this call would wait for ever: {' -> '.join(names)}; the first of them is in a "
            f"critical section, which lets no event in until it ends. Make the call outside of "
            f"block_concurrency_while() and transaction()"
        )
        self.chain = chain


class OnceConflict(DurableError, ValueError):
    """A key of `once=` names another call already: of another method, or with other arguments."""


class ResultNotKept(DurableError, TypeError):
    """A call with `once=` was made, but its result cannot be stored, so that no caller gets it."""


class WrongLoop(DurableError, RuntimeError):
    """A runtime was used from another thread, another event loop or a forked process."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} belongs to the event loop that opened it, and this is another thread, loop or "
            f"process; hand the work over to that loop, or open the store with durable.blocking, "
            f"which any thread may use"
        )


class RuntimeClosed(DurableError, RuntimeError):
    """The runtime was closed before the call, or while it was under way."""

    reset = True

    def __init__(self, message: str | None = None) -> None:
        super().__init__(
            message
            or "the runtime is closed; call objects inside of the `async with durable.open(...)`"
        )


class MissingExtra(DurableError, ImportError):
    """Something needs a library that comes with an extra which is not installed.

    `extra` is its name, as in `pip install 'durable-objects[sql]'`.
    """

    extra: str

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what}; it comes with: pip install 'durable-objects[{extra}]'")
        self.extra = extra


class InternalError(DurableError):
    """A fault of this library. Please report it with the traceback."""


# Other processes


class ObjectUnreachable(DurableError):
    """The process that has the object went away, or does not answer, while a call was under way
    there: the call may have been carried out or not."""

    retryable = True


class RemoteError(DurableError):
    """An error of code in another process, whose class is not known in this one or whose arguments
    are not values.

    `class_name` is the full name of the class, `text` the text of the error.
    """

    class_name: str
    text: str

    def __init__(self, class_name: str, text: str) -> None:
        super().__init__(f"{class_name}: {text}" if text else class_name)
        self.class_name, self.text = class_name, text


class MessageTooLarge(DurableError, ValueError):
    """Arguments, or a result, for another process take more than `size_max` bytes once encoded."""

    size: int
    size_max: int

    def __init__(self, what: str, size: int, size_max: int) -> None:
        super().__init__(
            f"{what} takes {size:,} bytes on its way to another process, and a message has at most "
            f"{size_max:,}; send it in parts, as a body that is streamed or by an async generator, "
            f"or raise Limits.peer_message_size_max"
        )
        self.size, self.size_max = size, size_max


# Forms


class InvalidForm(DurableError, ValueError):
    """The body is not the form that its content type declares."""


class FormTooLarge(InvalidForm):
    """A form exceeds a limit of `form()`: `limit` is the name of the limit, `limit_max` its
    number."""

    limit: str
    limit_max: int

    def __init__(self, limit: str, limit_max: int, what: str) -> None:
        super().__init__(
            f"{what}, and form({limit}={limit_max:_}) allows {limit_max:,}; answer with 413, or "
            f"allow more"
        )
        self.limit, self.limit_max = limit, limit_max


# Web sockets


class WebSocketClosed(DurableError):
    """The socket cannot be used any more: the peer is gone, or it was closed here."""


class TooManyWebSockets(DurableError):
    """An object has `count_max` hibernatable sockets already."""

    count_max: int

    def __init__(self, count_max: int) -> None:
        super().__init__(
            f"only {count_max} websockets can be accepted on a single Durable Object instance; "
            f"spread the connections over more objects or raise Limits.websockets_max"
        )
        self.count_max = count_max
