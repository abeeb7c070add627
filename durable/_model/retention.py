"""How long the objects of a class can go back, as `history` of the class says, and what is raised
where there is no way back."""

from __future__ import annotations

from datetime import timedelta

from .errors import DurableError

NO_TIMEDELTA = (
    "{cls}.history must be a timedelta, how long its objects can go back, such as "
    "timedelta(days=30), not {said!r}"
)


def history_of(cls: type) -> int | None:
    """In microseconds; None: its objects keep no history.

    A method or a property of this name says nothing. Raises TypeError for a value that is no
    timedelta, ValueError for one that is not positive.
    """
    said = getattr(cls, "history", None)
    if isinstance(said, timedelta):
        if said <= timedelta(0):
            raise ValueError(f"{cls.__qualname__}.history must be longer than nothing")
        return round(said / timedelta(microseconds=1))
    if isinstance(said, bool | int | float | str):
        raise TypeError(NO_TIMEDELTA.format(cls=cls.__qualname__, said=said))
    return None


class UnknownBookmark(DurableError, ValueError):
    """There is no way back to this bookmark: it is too old, or none of the object's."""

    oldest: str
    """The oldest bookmark that there is a way back to."""

    def __init__(self, message: str, oldest: str) -> None:
        super().__init__(message)
        self.oldest = oldest
