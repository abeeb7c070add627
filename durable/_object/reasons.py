"""Why an object was reset, or would not take a call."""

from __future__ import annotations

from durable._model.errors import DurableError, ObjectReset

_OVERLOADED = "Durable Object is overloaded. "
TOO_MANY = _OVERLOADED + "Too many requests queued."
TOO_MUCH = _OVERLOADED + "Too much data queued."
TOO_LONG = _OVERLOADED + "Requests queued for too long."
COMMIT_TOO_LONG = (
    "Durable Object storage operation exceeded timeout which caused object to be reset."
)


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
