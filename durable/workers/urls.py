"""URL and URLSearchParams."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from .javascript import JsProxy, JsTypeError, js_text
from .js_collections import JsArray, JsObject

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}


class URLSearchParams(JsProxy):
    """The pairs of a query."""

    js_name: ClassVar[str] = "URLSearchParams"

    def __init__(self, init: Any = "", *, on_change: Callable[[str], None] | None = None) -> None:
        self._on_change = on_change
        if isinstance(init, str):
            self._pairs = parse_qsl(init.removeprefix("?"), keep_blank_values=True)
        elif isinstance(init, JsObject):
            self._pairs = [(k, js_text(v)) for k, v in init.as_object_map().items()]
        elif isinstance(init, Mapping):
            self._pairs = [(js_text(k), js_text(v)) for k, v in init.items()]
        elif isinstance(init, URLSearchParams):
            self._pairs = list(init._pairs)
        else:
            self._pairs = [(js_text(k), js_text(v)) for k, v in init]

    def get(self, name: str) -> str | None:
        return next((value for key, value in self._pairs if key == name), None)

    def getAll(self, name: str) -> JsArray:
        return JsArray(value for key, value in self._pairs if key == name)

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self._pairs)

    def set(self, name: str, value: Any) -> None:
        kept, is_set = [], False
        for key, old in self._pairs:
            if key != name:
                kept.append((key, old))
            elif not is_set:
                kept.append((name, js_text(value)))
                is_set = True
        self._changed(kept if is_set else [*kept, (name, js_text(value))])

    def append(self, name: str, value: Any) -> None:
        self._changed([*self._pairs, (name, js_text(value))])

    def delete(self, name: str) -> None:
        self._changed([pair for pair in self._pairs if pair[0] != name])

    def sort(self) -> None:
        self._changed(sorted(self._pairs, key=lambda pair: pair[0]))

    def _changed(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        if self._on_change is not None:
            self._on_change(str(self))

    def entries(self) -> JsArray:
        return JsArray(JsArray(pair) for pair in self._pairs)

    def keys(self) -> JsArray:
        return JsArray(key for key, _ in self._pairs)

    def values(self) -> JsArray:
        return JsArray(value for _, value in self._pairs)

    @property
    def size(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[JsArray]:
        return iter(self.entries())

    def __str__(self) -> str:
        return urlencode(self._pairs)


class URL(JsProxy):
    """An absolute URL."""

    js_name: ClassVar[str] = "URL"

    def __init__(self, url: Any, base: Any = None) -> None:
        text = str(url) if base is None else urljoin(str(base), str(url))
        try:
            self._parts = urlsplit(text.strip())
            port = self._parts.port
        except ValueError:
            raise JsTypeError(f"Invalid URL string: {text!r}") from None
        if not self._parts.scheme or (self._parts.scheme in _PORTS and not self._parts.hostname):
            raise JsTypeError(f"Invalid URL string: {text!r}")
        host = (self._parts.hostname or "").lower()
        if ":" in host:
            host = f"[{host}]"
        if port is not None and port != _PORTS.get(self._parts.scheme):
            host += f":{port}"
        self._parts = self._parts._replace(
            netloc=host,
            path=self._parts.path or ("/" if self._parts.scheme in _PORTS else ""),
        )

    @staticmethod
    def canParse(url: Any, base: Any = None) -> bool:
        try:
            URL(url, base)
        except JsTypeError:
            return False
        return True

    @property
    def href(self) -> str:
        return urlunsplit(self._parts)

    @property
    def protocol(self) -> str:
        return f"{self._parts.scheme}:"

    @protocol.setter
    def protocol(self, value: str) -> None:
        self._parts = self._parts._replace(scheme=value.rstrip(":"))

    @property
    def host(self) -> str:
        return self._parts.netloc

    @host.setter
    def host(self, value: str) -> None:
        self._parts = self._parts._replace(netloc=value)

    @property
    def hostname(self) -> str:
        return self._parts.hostname or ""

    @hostname.setter
    def hostname(self, value: str) -> None:
        self.host = f"{value}:{self.port}" if self.port else value

    @property
    def port(self) -> str:
        return "" if self._parts.port is None else str(self._parts.port)

    @property
    def origin(self) -> str:
        return f"{self._parts.scheme}://{self._parts.netloc}"

    @property
    def pathname(self) -> str:
        return self._parts.path

    @pathname.setter
    def pathname(self, value: str) -> None:
        self._parts = self._parts._replace(path=value if value.startswith("/") else f"/{value}")

    @property
    def search(self) -> str:
        return f"?{self._parts.query}" if self._parts.query else ""

    @search.setter
    def search(self, value: str) -> None:
        self._parts = self._parts._replace(query=value.removeprefix("?"))

    @property
    def hash(self) -> str:
        return f"#{self._parts.fragment}" if self._parts.fragment else ""

    @hash.setter
    def hash(self, value: str) -> None:
        self._parts = self._parts._replace(fragment=value.removeprefix("#"))

    @property
    def searchParams(self) -> URLSearchParams:
        def changed(query: str) -> None:
            self.search = query

        return URLSearchParams(self._parts.query, on_change=changed)

    def toJSON(self) -> str:
        return self.href

    def __str__(self) -> str:
        return self.href
