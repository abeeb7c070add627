"""The files of a new project: a program that is served, its test, and what it takes to run it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from durable import __version__

_MAIN = '''\
"""Counts the visits of each page.

    uvicorn main:app
    curl http://127.0.0.1:8000/front-page
"""

from __future__ import annotations

import os

import durable
import durable.asgi
from durable import Request, Response


class Env(durable.Env):
    """What is bound below."""

    COUNTERS: durable.Namespace[Counter]


class Counter(durable.DurableObject):
    """The visits of one page.

    There is one object for each name, and nothing else runs in it while it waits for
    its storage: so this needs no lock.
    """

    async def increment(self, by: int = 1) -> int:
        value = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value


async def fetch(request: Request, env: Env) -> Response:
    """Answer a request; what is returned leaves when it is on disk."""
    count = await env.COUNTERS.get_by_name(request.url.path).rpc.increment()
    return Response(f"{count}\\n")


app = durable.asgi.app(
    fetch,
    os.environ.get("STORE", "state"),
    bindings={"COUNTERS": Counter},
    wait_s=30,  # for a server before this one, which is about to end
)
'''

_TEST = '''\
from __future__ import annotations

from typing import Any

import durable
import durable.testing
import pytest

from main import Counter, fetch


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def durable_options() -> dict[str, Any]:
    """What the store of each test is opened with; it is in a folder of its own."""
    return {"bindings": {"COUNTERS": Counter}}


async def test_each_page_has_a_count(durable_runtime: durable.Runtime) -> None:
    async def visit(path: str) -> str:
        request = durable.Request(f"https://site{path}")
        return await (await fetch(request, durable_runtime.env)).text()

    counts = [await visit(path) for path in ("/a", "/a", "/b")]
    assert counts == ["1\\n", "2\\n", "1\\n"]


async def test_a_count_outlives_its_object(durable_runtime: durable.Runtime) -> None:
    counter = durable_runtime.namespace(Counter).get_by_name("/a")
    await counter.rpc.increment(5)
    await durable.testing.evict(counter)

    assert await counter.rpc.increment() == 6
'''

_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["durable-objects[asgi,cli]>={version}"]

[dependency-groups]
dev = ["pytest>=8.2"]

[tool.hatch.build.targets.wheel]
only-include = ["main.py"]

[tool.pytest.ini_options]
anyio_mode = "auto"
pythonpath = ["."]
testpaths = ["tests"]
"""

_DOCKERFILE = """\
FROM python:3.13-slim
COPY pyproject.toml main.py /srv/
RUN pip install --no-cache-dir /srv

# The store is on a volume: what is in the container's own layer goes with the container.
RUN mkdir /data && chown 1000 /data
VOLUME /data
USER 1000
ENV STORE=/data/state DURABLE_OPERATE=1

# One process: a store has one owner. As a list, so that it gets SIGTERM itself.
CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000", "--workers", "1"]
"""

_README = """\
# {name}

Counts the visits of each page, in objects that remember: one for each page, in the folder `state`.

```sh
pip install -e . pytest
pytest
uvicorn main:app
```

While it runs with `DURABLE_OPERATE=1`, or is stopped, the command `durable` looks into its store
and changes it:

```sh
curl http://127.0.0.1:8000/front-page
durable ls state Counter
durable call state Counter /front-page increment '[5]' --app main:app
```

In a container:

```sh
docker build -t {name} .
docker run -p 8000:8000 -v {name}:/data {name}
```
"""

_IGNORED = """\
state/
__pycache__/
.pytest_cache/
.venv/
"""


def project_files(name: str) -> Mapping[str, str]:
    """The text of each file, by its path, of a project called *name*."""
    filled = {"name": project_name(name), "version": __version__}
    return {
        "main.py": _MAIN,
        "tests/test_main.py": _TEST,
        "pyproject.toml": _PYPROJECT.format(**filled),
        "Dockerfile": _DOCKERFILE,
        "README.md": _README.format(**filled),
        ".gitignore": _IGNORED,
        ".dockerignore": _IGNORED,
    }


def project_name(folder: str) -> str:
    """What a package, an image and a volume can be called, of the name of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-") or "counters"
