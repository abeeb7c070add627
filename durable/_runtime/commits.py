"""The commits of one runtime: counted on the committer's thread, observed on the loop's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from durable._engine.batch import Batch, size_of
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._model.observer import CommitEnded


@define(eq=False)
class Commits:
    """Counters that only the committer's thread changes; another may read one less."""

    _clock: Clock
    _call_soon_threadsafe: Callable[[Callable[[], None]], object]
    _is_observed: Callable[[], bool]
    _notify: Callable[[CommitEnded], None]
    count: int = field(default=0, init=False)
    batches: int = field(default=0, init=False)
    size: int = field(default=0, init=False)
    fsync_s: float = field(default=0.0, init=False)
    failed: int = field(default=0, init=False)
    _began_s: float = field(default=0.0, init=False)

    def begins(self, group: Sequence[Batch]) -> None:
        self._began_s = self._clock.steady()

    def ended(self, group: Sequence[Batch], error: DurableError | None) -> None:
        sizes = list(map(size_of, group))
        batches, size = len(group), sum(sizes)
        if 0 in sizes:
            batches -= sum(batch.is_empty for batch in group)
        if not batches:
            return  # an empty group, submitted to learn when all before it are on the disk
        fsync_s = self._clock.steady() - self._began_s
        if error is None:
            self.count += 1
            self.batches += batches
            self.size += size
            self.fsync_s += fsync_s
        else:
            self.failed += 1
        if self._is_observed():
            text = None if error is None else f"{type(error).__name__}: {error}"
            ended = CommitEnded(batches=batches, size=size, fsync_s=fsync_s, error=text)
            self._call_soon_threadsafe(lambda: self._notify(ended))
