"""The mark of a finalized object: marked code is freed without being run.

Python runs the finalizer of an object once at most (PEP 442), and to close what is suspended is the
finalizer of a coroutine or generator. So one that is marked is freed with its frame when its last
reference goes, and not a line of it runs. `gc.is_finalized` reads the mark, and only the
interpreter and this file set it.

Relies on the mark being a bit of the word that the collector has before each object. Versions:
CPython 3.11 to 3.14 with the GIL. A probe at import looks for the bit, whatever the version: where
it is not in its place, `CAN_MARK` is false and nothing is ever written; then `keep_forever`.
"""

from __future__ import annotations

import ctypes
import gc
import sysconfig

from .switch import BORROWS

_FINALIZED = 1


def mark_finalized(code: object) -> None:
    """Have Python free *code* without running its finalizer. Only where `CAN_MARK` is true."""
    assert CAN_MARK
    if not gc.is_finalized(code):
        _word_before(code).value |= _FINALIZED


def keep_forever(code: object) -> None:
    """The fallback: *code* is not freed, so that it does not run either."""
    # One reference more than anyone will give back.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))


def _word_before(thing: object) -> ctypes.c_size_t:
    """The last word of what the collector has before each object."""
    return ctypes.c_size_t.from_address(id(thing) - ctypes.sizeof(ctypes.c_size_t))


class _Finalizable:
    """Something with a finalizer."""

    def __del__(self) -> None: ...


def _is_mark_known() -> bool:
    """Whether the mark is where we look for it: looked for before anything is written."""
    if not BORROWS or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    for _ in range(4):
        thing = _Finalizable()
        if gc.is_finalized(thing) or _word_before(thing).value & _FINALIZED:
            return False
        ctypes.pythonapi.PyObject_CallFinalizer(ctypes.py_object(thing))
        if not gc.is_finalized(thing) or not _word_before(thing).value & _FINALIZED:
            return False
    return True


CAN_MARK = _is_mark_known()
