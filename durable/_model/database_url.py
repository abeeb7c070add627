"""URLs of databases: how they are recognized, and how messages show them."""

from __future__ import annotations

import re
from typing import Final

SCHEMES: Final = ("postgresql://", "postgres://")

_PASSWORD: Final = re.compile(r"(?<=://)([^/?#@]*?):[^/?#]*@")
_PASSWORD_FIELD: Final = re.compile(r"([?&](?:password|sslpassword)=)[^&#]*")


def is_url(path: str) -> bool:
    """Whether a store's path is a database and not a folder."""
    return path.startswith(SCHEMES)


def shown(url: str) -> str:
    """The URL without its password, for messages."""
    return _PASSWORD_FIELD.sub(r"\1***", _PASSWORD.sub(r"\1:***@", url))
