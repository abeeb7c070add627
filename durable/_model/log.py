"""The library's log: the logger "durable".

Rule: logging never fails. The filters and handlers of a logger are code of the program, and an
exception of theirs must not interrupt a step of the library.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from typing import Any

_LEVELS_UP = 3  # from `Logger.log` to the caller of a function of `Log`


class Log:
    """The part of a `logging.Logger` that the library needs."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def note(self, text: str, *args: object, **options: Any) -> None:
        self._say(logging.INFO, text, args, options)

    def warning(self, text: str, *args: object, **options: Any) -> None:
        self._say(logging.WARNING, text, args, options)

    def error(self, text: str, *args: object, **options: Any) -> None:
        self._say(logging.ERROR, text, args, options)

    def exception(self, text: str, *args: object, **options: Any) -> None:
        """An error, with the traceback of the exception that is handled."""
        self._say(logging.ERROR, text, args, {"exc_info": True, **options})

    def _say(
        self, level: int, text: str, args: tuple[object, ...], options: dict[str, Any]
    ) -> None:
        error = options.get("exc_info")
        if isinstance(error, BaseException):
            # `logging` tests the truth of an error, which runs its author's code.
            options["exc_info"] = type(error), error, error.__traceback__
        try:
            self._logger.log(level, text, *args, stacklevel=_LEVELS_UP, **options)
        except Exception:
            # As `logging` itself does with failures of its handlers.
            with suppress(Exception):
                print("a filter or handler of the logger 'durable' failed:", file=sys.stderr)
                traceback.print_exc()


log = Log("durable")
