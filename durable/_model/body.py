"""The body of a message: bytes at hand or a stream of them, read once.

Rule: a reader takes the body before its first wait, so two readers never share one stream.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, NoReturn, Self, TypeAlias

from .tee import tee

BodyInit: TypeAlias = str | bytes | bytearray | memoryview | AsyncIterable[bytes] | None
"""What a body can be made of. A str is sent as UTF-8."""

TEXT_TYPE = "text/plain;charset=UTF-8"

Bytes: TypeAlias = bytes  # for the class that has a method of this name

USED = (
    "Body has already been used. It can only be used once; clone() the message before the first "
    "read, or keep what bytes() or text() returned"
)

_BOM = b"\xef\xbb\xbf"


class Body:
    """What Request and Response have in common: a body that is read once, in one of four ways."""

    __slots__ = ("_content", "_used")

    # None: there is no body, which may be read any number of times, or it was taken.
    _content: Bytes | AsyncIterable[Bytes] | None
    _used: bool

    @property
    def body_used(self) -> bool:
        """Whether the body was read, or its stream handed out."""
        return self._used

    async def bytes(self) -> Bytes:
        """The whole body. Raises TypeError when it was read before."""
        content = self._take()
        if type(content) is bytes:
            return content
        return b"".join([chunk async for chunk in _Chunks(content)])

    async def text(self) -> str:
        """The whole body as text: UTF-8 without its byte order mark, bad bytes as U+FFFD."""
        content = await self.bytes()
        return content.removeprefix(_BOM).decode(errors="replace")

    async def json(self) -> Any:
        """The whole body as JSON. Raises json.JSONDecodeError, a ValueError, when it is none."""
        text = await self.text()
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise _no_json(error.msg, text, error.pos) from None
        except ValueError as error:  # NaN, or a number of more digits than Python takes
            raise _no_json(str(error), text, 0) from None
        except RecursionError:
            raise _no_json("arrays and objects are nested too deeply", text, 0) from None

    def stream(self) -> AsyncIterator[Bytes]:
        """The body chunk by chunk, for `async for`. Counts as read from this call on."""
        return _Chunks(self._take())

    @property
    def _size(self) -> int:
        """Bytes that the body keeps in memory: those of a stream are not known and not counted."""
        return len(self._content) if type(self._content) is bytes else 0

    def _take_stream(self) -> AsyncIterable[Bytes] | None:
        """The stream that is this body, or None if it is none or was read. It is followed by
        `_set_stream`: the two put something between writer and reader."""
        content = self._content
        return None if content is None or isinstance(content, bytes) else content

    def _set_stream(self, stream: AsyncIterable[Bytes]) -> None:
        assert not self._used  # a reader has the old stream in its hands
        self._content = stream

    def _take(self) -> Any:
        content = self._content
        if content is None:
            if not self._used:
                return b""
            raise TypeError(USED)
        self._used = True
        self._content = None
        return content

    def _check_unused(self, message: str = USED) -> None:
        """Raise TypeError if the body was read: the message cannot be sent."""
        if self._used:
            raise TypeError(message)

    def _put(self, content: Bytes | AsyncIterable[Bytes] | None) -> None:
        """Make *content* the body, not read yet."""
        self._used = False
        self._content = content

    def _hand_over_body(self) -> Bytes | AsyncIterable[Bytes] | None:
        """The content, for another message; this one's counts as read, if it has a body."""
        content = self._content
        if content is not None:
            self._used = True
            self._content = None
        return content

    def _tee(self) -> Bytes | AsyncIterable[Bytes] | None:
        """The content for a clone, which is read on its own."""
        self._check_unused()
        content = self._content
        if content is None or isinstance(content, bytes):
            return content
        self._content, other = tee(content)
        return other

    def _set_content(self, body: BodyInit) -> str | None:
        """Make *body* the body; returns the content type that it suggests."""
        self._used = False
        if body is None or type(body) is bytes:
            self._content = body
            return None
        if isinstance(body, str):
            try:
                self._content = body.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"the body has a lone surrogate at {error.start}, which UTF-8 cannot express; "
                    f"give bytes, or mend the text"
                ) from None
            return TEXT_TYPE
        if isinstance(body, bytes | bytearray | memoryview):
            self._content = bytes(body)
        elif isinstance(body, AsyncIterable):
            self._content = body
        else:
            raise TypeError(
                f"a body must be str, bytes, an async iterator of bytes or None, not "
                f"{type(body).__name__}"
            )
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _no_json(why: str, text: str, position: int) -> json.JSONDecodeError:
    begins = f"it begins with {text[:40]!r}" if text else "it is empty"
    return json.JSONDecodeError(f"the body is no JSON, {begins}: {why}", text, position)


class _Chunks(AsyncIterator[bytes]):
    """The chunks of a body. Not a generator, so that one left half-way needs no clean-up hooks."""

    __slots__ = ("_rest", "_source")

    def __init__(self, content: bytes | AsyncIterable[bytes]) -> None:
        self._rest: bytes | None = None
        self._source: AsyncIterator[object] | None = None
        if isinstance(content, bytes):
            self._rest = content
        else:
            self._source = aiter(content)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._source is not None:
            chunk = await anext(self._source)
            if type(chunk) is bytes:
                return chunk
            if isinstance(chunk, bytes | bytearray | memoryview):
                return bytes(chunk)
            await self.aclose()
            raise TypeError(f"the chunks of a body must be bytes, not {type(chunk).__name__}")
        rest, self._rest = self._rest, None
        if not rest:
            raise StopAsyncIteration
        return rest

    async def aclose(self) -> None:
        """Close the source, if it can be closed: no more of it will be read."""
        source, self._source, self._rest = self._source, None, None
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
