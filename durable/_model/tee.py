"""One stream of chunks, read by two: the bodies of a message and of its clone.

Whichever reads on first takes a chunk from the source and leaves it for the other, so a chunk that
only one has read is kept in memory until the other has read it too, or has gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Self

import anyio
from attrs import define, field


def tee(source: AsyncIterable[bytes]) -> tuple[Branch, Branch]:
    """Two streams of the chunks of *source*, which no other code reads from now on."""
    shared = _Shared(aiter(source))
    branches = Branch(shared), Branch(shared)
    shared.branches += branches
    return branches


@define(eq=False)
class _Shared:
    """What two branches share."""

    source: AsyncIterator[bytes]
    branches: list[Branch] = field(factory=list)
    end: BaseException | None = None
    # While one of them waits for the source: what the other waits for.
    pulling: anyio.Event | None = None

    async def pull(self) -> None:
        """Bring one chunk to both, or the end."""
        if self.pulling is not None:
            await self.pulling.wait()
            return
        self.pulling = anyio.Event()
        try:
            chunk = await anext(self.source)
        except Exception as error:  # StopAsyncIteration, as a rule
            self.end = error
        except BaseException:
            # Cancelled, and with it the source, as a generator is. The other must not take this
            # for the end of the body.
            self.end = ConnectionError(
                "the body broke off: the read of its clone, which was under way, was cancelled"
            )
            raise
        else:
            for branch in self.branches:
                branch.chunks.append(chunk)
        finally:
            pulling, self.pulling = self.pulling, None
            pulling.set()

    async def leave(self, branch: Branch) -> None:
        """*branch* reads no more. Closes the source if it was the last."""
        if branch in self.branches:
            self.branches.remove(branch)
            branch.chunks.clear()
            close = getattr(self.source, "aclose", None)
            if not self.branches and close is not None:
                await close()


@define(eq=False)
class Branch(AsyncIterator[bytes]):
    """One of the two."""

    _shared: _Shared
    chunks: deque[bytes] = field(factory=deque, init=False)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        shared = self._shared
        while not self.chunks:
            if self not in shared.branches:
                raise StopAsyncIteration
            if shared.end is not None:
                raise StopAsyncIteration if _is_usual(shared.end) else shared.end
            await shared.pull()
        return self.chunks.popleft()

    async def aclose(self) -> None:
        """Leave the stream to the other."""
        await self._shared.leave(self)


def _is_usual(end: BaseException) -> bool:
    return isinstance(end, StopAsyncIteration)
