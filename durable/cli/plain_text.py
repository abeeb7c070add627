"""Text for people, on a terminal: no part of it acts as a command to the terminal.

Rule: all that a command prints for people goes through `printable`, here or in `printing.py`.
Names, keys, values and errors come out of a store, and so perhaps from a stranger's export: they
may contain escape sequences, overrides of the writing direction, or what looks like a line of ours.
"""

from __future__ import annotations

import sys


def printable(text: str) -> str:
    """*text* on one line, with `\\x1b` and the like for characters that a terminal would act on."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else _escaped(c) for c in text])


def say(text: str, *, err: bool = False) -> None:
    """Print one line, now."""
    print(printable(text), file=sys.stderr if err else sys.stdout, flush=True)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
