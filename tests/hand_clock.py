"""A clock that a test sets by hand, for parts that know no event loop."""

from __future__ import annotations

from attrs import define


@define
class HandClock:
    """Stands still until `now_s` is set."""

    now_s: float = 0.0

    def steady(self) -> float:
        return self.now_s
