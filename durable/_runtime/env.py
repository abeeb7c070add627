"""`env`: the namespaces and variables that objects and entry functions find by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Env(Mapping[str, Any]):
    """Bindings and variables by attribute, `env.COUNTERS`, or as a mapping. It never changes."""

    __slots__ = ("_entries",)

    _entries: dict[str, Any]

    def __init__(self, entries: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_entries", dict(entries))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(self._entries) or "nothing"
            raise AttributeError(
                f"env has no {name!r}; bound are: {known}. Add it to the bindings or vars given "
                f"to durable.open()"
            ) from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("env cannot be changed; give bindings and vars to durable.open()")

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._entries]

    def __repr__(self) -> str:
        return f"<Env {', '.join(self._entries)}>"
