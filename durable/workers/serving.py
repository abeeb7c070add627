"""A Worker as an ASGI application."""

from __future__ import annotations

import os
from typing import Any

import durable
from durable.asgi import BODY_SIZE_MAX, Application

from .opening import open_worker


def app(
    file: str | os.PathLike[str], *, body_size_max: int = BODY_SIZE_MAX, **options: Any
) -> Application:
    """An ASGI application of the Worker that a file of Wrangler's describes, as `durable dev`
    serves it; *options* are those of `open_worker`.

        app = durable.workers.app("wrangler.jsonc")

    A failure is answered with its traceback: this is for development. Raises InvalidConfig.
    """
    return Served(file, body_size_max, options).application


class Served:
    """A Worker, and the application that opens and calls it. Raises InvalidConfig."""

    def __init__(
        self, file: str | os.PathLike[str], body_size_max: int, options: dict[str, Any]
    ) -> None:
        self._file = file
        self._options = options
        self.opened: open_worker = self._make()
        self.application: Application = Application(
            self._fetch, self._begin, None, True, body_size_max
        )

    def _make(self) -> open_worker:
        return open_worker(self._file, **self._options)

    def _begin(self) -> open_worker:
        self.opened = self._make()
        return self.opened

    async def _fetch(self, request: durable.Request, env: Any) -> durable.Response:
        return await self.opened.worker.respond(request)

    async def reload(self) -> None:
        """Load the code anew; an exception of it passes unchanged, and the old code stays."""
        self.opened.reload(await self.application.open())
