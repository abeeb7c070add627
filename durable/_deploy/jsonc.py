"""JSON with comments and trailing commas, as in `wrangler.jsonc`."""

from __future__ import annotations

import json
import re
from typing import Any

# A string, which is kept as it is; a comment, a comma before an end, which are not.
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL
)


def loads(text: str) -> Any:
    """What the JSON says. Raises ValueError, with line and column as they are in *text*."""
    return json.loads(_TOKEN.sub(_plain, text))


def _plain(token: re.Match[str]) -> str:
    found = token[0]
    # As many lines and columns as before, so that errors give the right place.
    return found if found[0] == '"' else re.sub(r"[^\n]", " ", found)
