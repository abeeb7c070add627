"""A line of JSON: exact when it is parsed, harmless when it is shown on a terminal.

JSON requires only that the control characters below 0x20 are escaped. All others that cannot be
printed are escaped too: control characters from which some terminals take commands, overrides of
the writing direction, and separators at which some programs would end the line.
"""

from __future__ import annotations

import json
import re
from typing import Any

_PERHAPS = re.compile(r"[^ -~]+")


def json_line(what: Any, *, separators: tuple[str, str] | None = None) -> str:
    """*what* as one line, with its line break."""
    text = json.dumps(what, ensure_ascii=False, separators=separators)
    return escaped(text) + "\n"


def escaped(text: str) -> str:
    """JSON without line breaks between its parts, with everything unprintable escaped."""
    if (text.isascii() and "\x7f" not in text) or text.isprintable():
        return text
    return _PERHAPS.sub(lambda found: "".join(map(_escaped, found.group())), text)


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
