"""URLs of databases: how they are recognized, and how messages show them."""

from __future__ import annotations

import re
from typing import Final

SCHEMES: Final = ("postgresql://", "postgres://")

# Of two letters or more: a path of Windows begins with one and a colon.
_OTHER_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)

_PASSWORD: Final = re.compile(r"(?<=://)([^/?#@]*?):[^/?#]*@")
_PASSWORD_FIELD: Final = re.compile(r"([?&](?:password|sslpassword)=)[^&#]*")


def is_url(path: str) -> bool:
    """Whether a store's path is a database and not a folder. Raises ValueError for the URL of
    another thing, which would become a folder of that name."""
    if path.startswith(SCHEMES):
        return True
    if _OTHER_SCHEME.match(path):
        raise ValueError(
            f"{shown(path)!r} is neither a folder nor a database that can be a store: give "
            f"the path of a folder, or a URL that begins with {SCHEMES[0]}"
        )
    return False


def shown(url: str) -> str:
    """The URL without its password, for messages."""
    return _PASSWORD_FIELD.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))
