"""Streams of JavaScript: ReadableStream, and the pipe that TransformStream is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, ClassVar

from .buffers import Uint8Array, bytes_of
from .javascript import JsProxy, JsTypeError, callable_of
from .js_collections import JsArray, JsObject, options_of
from .promises import Promise, settled, started

# Chunks that wait in a pipe until it is read.
PIPE_MAX = 16


class ReadableStream(JsProxy):
    """Bytes to come. It is read once, by `getReader().read()` or by `async for`."""

    js_name: ClassVar[str] = "ReadableStream"

    def __init__(self, source: Any = None, strategy: Any = None, **options: Any) -> None:
        self._chunks: AsyncIterator[Any] = _of_source(options_of(source, options))
        self.locked: bool = False

    @classmethod
    def over(cls, chunks: AsyncIterable[Any]) -> ReadableStream:
        """A stream of what another source produces."""
        made = cls.__new__(cls)
        made._chunks = aiter(chunks)
        made.locked = False
        return made

    def getReader(self, options: Any = None, **more: Any) -> ReadableStreamDefaultReader:
        self._lock()
        return ReadableStreamDefaultReader(self)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole stream, as bytes."""
        self._lock()
        async for chunk in self._chunks:
            found = bytes_of(chunk)
            if found is None:
                raise JsTypeError(f"the chunks of a body must be bytes, not {chunk!r}")
            yield found

    def tee(self) -> JsArray:
        self._lock()
        pipes: list[asyncio.Queue[Any]] = [_Pipe(), _Pipe()]

        async def copy() -> None:
            async for chunk in self._chunks:
                for pipe in pipes:
                    pipe.put_nowait(chunk)
            for pipe in pipes:
                pipe.put_nowait(_END)

        started(copy())
        return JsArray(ReadableStream.over(_drained(pipe)) for pipe in pipes)

    def cancel(self, reason: Any = None) -> Promise:
        return started(_close(self._chunks))

    def pipeTo(self, target: WritableStream, options: Any = None) -> Promise:
        async def pump() -> None:
            writer = target.getWriter()
            async for chunk in self._chunks:
                await writer.write(chunk)
            await writer.close()

        self._lock()
        return started(pump())

    def pipeThrough(self, transform: Any, options: Any = None) -> Any:
        self.pipeTo(transform.writable)
        return transform.readable

    def __aiter__(self) -> AsyncIterator[Any]:
        self._lock()
        return (Uint8Array(c) if isinstance(c, bytes) else c async for c in self._chunks)

    async def read_chunk(self) -> Any:
        """The result of a reader's `read()`."""
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            return JsObject({"done": True, "value": None})
        value = Uint8Array(chunk) if isinstance(chunk, bytes) else chunk
        return JsObject({"done": False, "value": value})

    def _lock(self) -> None:
        if self.locked:
            raise JsTypeError("This ReadableStream is currently locked to a reader.")
        self.locked = True


class ReadableStreamDefaultReader(JsProxy):
    js_name: ClassVar[str] = "ReadableStreamDefaultReader"

    def __init__(self, stream: ReadableStream) -> None:
        self._stream = stream

    def read(self) -> Promise:
        return Promise(self._stream.read_chunk())

    def releaseLock(self) -> None:
        self._stream.locked = False

    def cancel(self, reason: Any = None) -> Promise:
        return self._stream.cancel(reason)


_END = object()
_Pipe = asyncio.Queue


class WritableStream(JsProxy):
    """The end of a pipe that is written to."""

    js_name: ClassVar[str] = "WritableStream"

    def __init__(self, pipe: asyncio.Queue[Any] | None = None) -> None:
        self._pipe: asyncio.Queue[Any] = _Pipe(PIPE_MAX) if pipe is None else pipe

    def getWriter(self) -> WritableStreamDefaultWriter:
        return WritableStreamDefaultWriter(self._pipe)

    def close(self) -> Promise:
        return self.getWriter().close()


class WritableStreamDefaultWriter(JsProxy):
    js_name: ClassVar[str] = "WritableStreamDefaultWriter"

    def __init__(self, pipe: asyncio.Queue[Any]) -> None:
        self._pipe = pipe
        self.ready: Promise = Promise.resolve()

    def write(self, chunk: Any) -> Promise:
        return started(self._pipe.put(chunk))

    def close(self) -> Promise:
        return started(self._pipe.put(_END))

    def abort(self, reason: Any = None) -> Promise:
        broken = reason if isinstance(reason, Exception) else JsTypeError(f"aborted: {reason}")
        return started(self._pipe.put(broken))

    def releaseLock(self) -> None:
        pass


class TransformStream(JsProxy):
    """A pipe: what is written to `writable` is read from `readable`."""

    js_name: ClassVar[str] = "TransformStream"

    def __init__(self, *_: Any, **__: Any) -> None:
        pipe: asyncio.Queue[Any] = _Pipe(PIPE_MAX)
        self.writable: WritableStream = WritableStream(pipe)
        self.readable: ReadableStream = ReadableStream.over(_drained(pipe))


async def _drained(pipe: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (chunk := await pipe.get()) is not _END:
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


async def _of_source(source: dict[str, Any]) -> AsyncIterator[Any]:
    """What `start` and `pull` of the source enqueue."""
    pipe: asyncio.Queue[Any] = _Pipe()
    controller = _Controller(pipe)
    if "start" in source:
        await settled(callable_of(source["start"])(controller))
    while True:
        if pipe.empty() and "pull" in source:
            await settled(callable_of(source["pull"])(controller))
        chunk = await pipe.get()
        if chunk is _END:
            return
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


class _Controller(JsProxy):
    js_name: ClassVar[str] = "ReadableStreamDefaultController"

    def __init__(self, pipe: asyncio.Queue[Any]) -> None:
        self._pipe = pipe

    def enqueue(self, chunk: Any) -> None:
        self._pipe.put_nowait(chunk)

    def close(self) -> None:
        self._pipe.put_nowait(_END)

    def error(self, reason: Any = None) -> None:
        self._pipe.put_nowait(reason if isinstance(reason, Exception) else JsTypeError(str(reason)))


async def _close(chunks: AsyncIterator[Any]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
