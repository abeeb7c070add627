"""`durable dev --reload`: new code for a Worker that goes on being served."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

import uvicorn
import watchfiles
from attrs import define, field

from durable.workers.serving import Served

from .reloading import OwnFiles, Server

log: logging.Logger = logging.getLogger("uvicorn.error")


@define(eq=False)
class WorkerReloading:
    """Watches for changes of a Worker's code."""

    served: Served
    _files: OwnFiles = field(factory=OwnFiles, init=False)

    async def watch(self) -> None:
        """Reload whenever a file changes; never ends by itself."""
        folders = self.served.opened.folders
        async for changes in watchfiles.awatch(*folders, watch_filter=self._files):
            await self.reload({path for _, path in changes})

    async def reload(self, changed: Collection[str]) -> None:
        """Use the new code, or log why the old one stays."""
        what = ", ".join(sorted(os.path.basename(path) for path in changed))
        try:
            await self.served.reload()
        except (Exception, SystemExit):
            log.exception("%s changed and cannot be used; the code from before stays", what)
        else:
            log.info("%s changed; the new code is in use", what)


def server(config: uvicorn.Config, served: Served) -> Server:
    """A server that watches the files of the Worker while it serves."""
    return Server(config, WorkerReloading(served))
