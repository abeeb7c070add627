"""Static assets: files before the Worker, after it, and by its binding."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run

pytestmark = pytest.mark.backends("asyncio")

CODE = """
from urllib.parse import urlparse
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = urlparse(request.url).path
        if path.startswith("/through"):
            return await self.env.ASSETS.fetch(request.url.replace("/through", ""))
        return Response(f"worker {path}")
"""
CONFIG = 'name = "it"\nmain = "worker.py"\n[assets]\ndirectory = "public"\nbinding = "ASSETS"\n'
FILES = {
    "index.html": "home",
    "about.html": "about",
    "404.html": "nothing at all",
    "docs/index.html": "docs",
    "docs/404.html": "no such page",
    "style.css": "a{}",
    "script.js": "1",
    "image.svg": "<svg/>",
    "favicon.ico": "i",
    "photo.jpg": "p",
    "raw": "bytes",
    "_headers": "secret",
    "with space.txt": "spaced",
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name, text in FILES.items():
        path = tmp_path / "public" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "outside.txt").write_text("outside")


TYPES = {
    "/": "text/html; charset=utf-8",
    "/style.css": "text/css; charset=utf-8",
    "/script.js": "text/javascript; charset=utf-8",
    "/image.svg": "image/svg+xml",
    "/favicon.ico": "image/vnd.microsoft.icon",
    "/photo.jpg": "image/jpeg",
    "/raw": "application/octet-stream",
    "/with%20space.txt": "text/plain; charset=utf-8",
}


async def test_files_are_served_with_their_types(run: Run) -> None:
    async with run(CODE, CONFIG) as opened:
        for path, kind in TYPES.items():
            response = await opened.get(path)
            assert (response.status, response.headers["content-type"]) == (200, kind)
            head = await opened.get(path, method="HEAD")
            assert head.headers["etag"] == response.headers["etag"]
            again = await opened.get(path, headers={"If-None-Match": response.headers["etag"]})
            assert again.status == 304


PATHS = {
    "/": (200, "home"),
    "/about": (200, "about"),
    "/docs/": (200, "docs"),
    "/index.html": (307, "/"),
    "/about.html": (307, "/about"),
    "/about/?a=b": (307, "/about?a=b"),
    "/docs": (307, "/docs/"),
    "/docs/index.html?q": (307, "/docs/?q="),
    "/nowhere": (200, "worker /nowhere"),
    "/_headers": (200, "worker /_headers"),
    "/../outside.txt": (200, "worker /outside.txt"),
    "/%2e%2e/outside.txt": (200, "worker /outside.txt"),
    "/..%2foutside.txt": (200, "worker /..%2Foutside.txt"),
    "/through/about": (200, "about"),
    "/through/nowhere": (404, "Not Found"),
}


@pytest.mark.parametrize("path", PATHS)
async def test_pages_have_one_address_each(run: Run, path: str) -> None:
    """Pages are found without `.html`, others lead there; what is no file is the Worker's, and
    nothing outside of the folder is a file."""
    status, expected = PATHS[path]
    async with run(CODE, CONFIG) as opened:
        response = await opened.get(path)
        assert response.status == status
        found = response.headers["location"] if status == 307 else await response.text()
        assert found == expected


async def test_other_methods_are_for_the_worker(run: Run) -> None:
    async with run(CODE, CONFIG) as opened:
        assert await opened.text("/about", method="POST") == "worker /about"


@pytest.mark.parametrize(
    ("first", "path", "expected"),
    [
        ("true", "/about", "worker /about"),
        ('["/api/*", "!/api/docs*"]', "/api/x", "worker /api/x"),
        ('["/api/*", "!/api/docs*"]', "/api/docs", "worker /api/docs"),
        ('["/about"]', "/about", "worker /about"),
        ('["/api/*"]', "/about", "about"),
    ],
)
async def test_the_worker_may_be_asked_first(
    run: Run, first: str, path: str, expected: str
) -> None:
    async with run(CODE, f"{CONFIG}run_worker_first = {first}\n") as opened:
        assert await opened.text(path) == expected


async def test_an_application_of_one_page(run: Run) -> None:
    """What a browser navigates to is the one page; what the page asks for is the Worker's."""
    config = f'{CONFIG}not_found_handling = "single-page-application"\n'
    async with run(CODE, config) as opened:
        assert await opened.text("/any", headers={"Sec-Fetch-Mode": "navigate"}) == "home"
        assert await opened.text("/any") == "worker /any"
        assert await opened.text("/through/any") == "home"


async def test_the_nearest_page_of_what_is_not_found(run: Run) -> None:
    """Where there is no Worker's code for requests, files alone answer."""
    config = f'{CONFIG}not_found_handling = "404-page"\n'
    async with run("", config) as opened:
        for path, text in (("/docs/x", "no such page"), ("/x/y", "nothing at all")):
            response = await opened.get(path)
            assert (response.status, await response.text()) == (404, text)
        assert (await opened.get("/x", method="POST")).status == 404


async def test_files_by_their_names_alone(run: Run) -> None:
    async with run(CODE, f'{CONFIG}html_handling = "none"\n') as opened:
        assert await opened.text("/about.html") == "about"
        assert await opened.text("/about") == "worker /about"
    async with run(CODE, f'{CONFIG}html_handling = "drop-trailing-slash"\n') as opened:
        assert (await opened.get("/docs/index.html")).headers["location"] == "/docs"
        assert await opened.text("/docs") == "docs"
