"""Objects on the web: an ASGI application around an entry function.

    async def fetch(request: durable.Request, env) -> durable.Response:
        return await env.COUNTERS.get_by_name(request.url.path).fetch(request)

    app = durable.asgi.app(fetch, "state", bindings={"COUNTERS": Counter})

Any ASGI server runs it, alone or mounted in Starlette or FastAPI. Where routes of such a framework
call stubs themselves, `request_of`, `response_of`, `starlette_response` and `forward` convert.
"""

from .application import Application, Entry, app
from .frameworks import forward, request_of, response_of, starlette_response
from .incoming import BodyTooLarge, ClientGone
from .requests import BODY_SIZE_MAX

__all__ = [
    "BODY_SIZE_MAX",
    "Application",
    "BodyTooLarge",
    "ClientGone",
    "Entry",
    "app",
    "forward",
    "request_of",
    "response_of",
    "starlette_response",
]
