"""What crosses an object's border as it is, while everything else is copied."""

from __future__ import annotations


class ByReference:
    """Marks what goes by reference: a stub, a stream, a function of another's, a web socket."""

    __slots__ = ()
