"""Python Workers of Cloudflare's, as they are, without Cloudflare.

    $ durable dev wrangler.jsonc

serves one from its own configuration. In Python, `open_worker` opens it as `durable.open_config`
does other files, and `app` makes an ASGI application of it. `installed` lets code import `workers`,
`js` and `pyodide`, for tests of a Worker's modules.
"""

from .imports import installed
from .opening import open_worker
from .serving import app
from .worker import Worker

__all__ = ["Worker", "app", "installed", "open_worker"]
