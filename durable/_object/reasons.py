"""Why an object was reset, when its own code was the cause."""

from __future__ import annotations

from durable._model.errors import DurableError, ObjectReset


def reset_by(error: BaseException) -> DurableError:
    """The reason of a reset that *error*, raised by the object's own code, has caused.

    It has the text and, where that can be, the type of the error: an `except` for either finds it.
    """
    if isinstance(error, DurableError) and error.reset:
        return error
    kind: type[DurableError] = ObjectReset
    if isinstance(error, Exception):
        try:
            kind = type(type(error).__name__, (ObjectReset, type(error)), {"__module__": __name__})
        except TypeError:  # bases that do not go together
            kind = ObjectReset
    reason = kind.__new__(kind)
    reason.args = error.args or (f"{type(error).__name__} in an object's critical section",)
    reason.__dict__.update(getattr(error, "__dict__", {}))
    reason.reset = True
    reason.__cause__ = error
    return reason
