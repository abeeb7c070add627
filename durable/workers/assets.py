"""Static assets: the files that a Worker's configuration has served."""

from __future__ import annotations

import fnmatch
import hashlib
import mimetypes
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from attrs import frozen
from yarl import URL

import durable

from .namespaces import Fetcher
from .promises import Later

_TEXT = ("text/", "application/javascript", "application/json", "application/xml")
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".ico": "image/vnd.microsoft.icon"}
NOT_FOUND_PAGE = "404.html"
INDEX = "index.html"
# Files of the folder that are not served.
_OWN_FILES = frozenset({"_headers", "_redirects", ".assetsignore"})


@frozen
class Assets:
    """A folder of files, and how they are served."""

    folder: Path
    not_found: str = "none"
    html: str = "auto-trailing-slash"
    worker_first: bool | tuple[str, ...] = False

    def is_for_worker(self, path: str) -> bool:
        """Whether the Worker gets a request of *path* before the files are searched."""
        if isinstance(self.worker_first, bool):
            return self.worker_first
        return _matches(path, [p for p in self.worker_first if not p.startswith("!")]) and not (
            _matches(path, [p[1:] for p in self.worker_first if p.startswith("!")])
        )

    def find(self, request: durable.Request) -> durable.Response | None:
        """The file that *request* asks for, or a redirect to it; None if there is none."""
        if request.method not in {"GET", "HEAD"}:
            return None
        path = unquote(request.url.raw_path)
        moved = self._canonical(path)
        if moved is not None:
            location = str(URL(quote(moved), encoded=True).with_query(request.url.query))
            return durable.Response(status=307, headers={"location": location})
        file = self._file(path)
        return None if file is None else _response(file, request, 200)

    def missing(self, request: durable.Request) -> durable.Response:
        """The response if there is neither a file nor a Worker's response."""
        if request.method in {"GET", "HEAD"}:
            if self.not_found == "single-page-application":
                file = self._inside(INDEX)
                if file is not None:
                    return _response(file, request, 200)
            if self.not_found == "404-page":
                for folder in _upward(unquote(request.url.raw_path)):
                    file = self._inside(f"{folder}/{NOT_FOUND_PAGE}")
                    if file is not None:
                        return _response(file, request, 404)
        return durable.Response("Not Found", status=404)

    def is_navigation(self, request: durable.Request) -> bool:
        """Whether a page of an application is requested that has one file for all its pages."""
        return (
            self.not_found == "single-page-application"
            and request.headers.get("sec-fetch-mode") == "navigate"
        )

    def _canonical(self, path: str) -> str | None:
        """The canonical path of a page requested by another name; None if it is this one."""
        if self.html == "none":
            return None
        moved: str | None = None
        if path.endswith(f"/{INDEX}") and self._inside(path):
            moved = path.removesuffix(INDEX)
        elif path.endswith(".html") and self._inside(path):
            moved = path.removesuffix(".html")
        elif self._inside(path) is None:
            is_folder = self._inside(f"{path.rstrip('/')}/{INDEX}") is not None
            is_page = self._inside(f"{path.rstrip('/')}.html") is not None
            if not path.endswith("/") and is_folder and not is_page:
                moved = f"{path}/"
            elif path.endswith("/") and path != "/" and is_page and not is_folder:
                moved = path.rstrip("/")
        if moved is not None and self.html == "drop-trailing-slash":
            moved = moved.rstrip("/") or "/"
        return None if moved == path else moved

    def _file(self, path: str) -> Path | None:
        found = self._inside(path)
        if found is not None or self.html == "none":
            return found
        page = path.rstrip("/")
        return self._inside(f"{page}/{INDEX}") if path.endswith("/") or not page else (
            self._inside(f"{page}.html") or self._inside(f"{page}/{INDEX}")
        )  # fmt: skip

    def _inside(self, path: str) -> Path | None:
        """The file of this path, if it is in the folder."""
        name = path.lstrip("/")
        if not name or "\0" in name or name in _OWN_FILES or path.endswith("/"):
            return None
        root = self.folder.resolve()
        file = (root / name).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None


def _upward(path: str) -> list[str]:
    parts = path.strip("/").split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def _matches(path: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _response(file: Path, request: durable.Request, status: int) -> durable.Response:
    content = file.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "content-type": content_type(file),
        "etag": etag,
        "cache-control": "public, max-age=0, must-revalidate",
    }
    known = request.headers.get("if-none-match", "")
    if status == 200 and etag in {each.strip().removeprefix("W/") for each in known.split(",")}:
        return durable.Response(status=304, headers=headers)
    return durable.Response(content, status=status, headers=headers)


def content_type(file: Path) -> str:
    """The content type by the file's name."""
    kind = _TYPES.get(file.suffix.lower()) or mimetypes.guess_type(file.name)[0]
    if kind is None:
        return "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith(_TEXT) else kind


class AssetsBinding(Fetcher):
    """`env.ASSETS`: the files, for the Worker itself."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets

    def _send(self, request: durable.Request) -> Any:
        async def find() -> durable.Response:
            return self._assets.find(request) or self._assets.missing(request)

        return Later(find)

    def _call(self, name: str, args: list[Any]) -> Awaitable[Any]:
        raise durable.NoSuchMethod(f"static assets have no method {name!r}")
