"""Names in camel case, as Cloudflare has them, and in snake case, as Python does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from .errors import NotHere


def camel_case(name: str) -> str:
    """`get_web_sockets` and `get_websockets` as `getWebSockets`."""
    split = name.replace("websocket", "web_socket")
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), split)


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class BothCases:
    """Its methods are named in camel case, and can be called in snake case too."""

    # Methods of Cloudflare's that do not exist here, with what to do instead.
    not_here: ClassVar[Mapping[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        camel = camel_case(name)
        if camel != name and hasattr(type(self), camel):
            return getattr(self, camel)
        if camel in self.not_here:
            raise NotHere(
                f"{type(self).__name__}.{camel} is not available here; {self.not_here[camel]}"
            )
        raise AttributeError(f"{type(self).__name__} has no {name!r}")


def keywords(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Those of *options* that are called *names*, in either case, as keywords in snake case."""
    found = {snake_case(name): value for name, value in options.items()}
    return {name: found[name] for name in names if found.get(name) is not None}
