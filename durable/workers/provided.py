"""The modules that a Worker's code imports: `workers`, `js`, `pyodide` with submodules, and `asgi`.

They are made here from the contents of this package, and are not modules of the installation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any, NoReturn

from . import (
    asgi_bridge,
    blobs,
    buffers,
    crossing,
    dates,
    entrypoints,
    env,
    ffi,
    headers,
    javascript,
    js_collections,
    json_text,
    messages,
    namespaces,
    outgoing,
    promises,
    scripting,
    sdk_forms,
    sdk_messages,
    sockets,
    state,
    streams,
    urls,
)
from .errors import NotHere, of_runtime
from .promises import Promise
from .scope import scope_of

# The version whose Python cannot suspend either, see `ffi.run_sync`.
PYODIDE = "0.26.0a2"

# Globals of Cloudflare's that programs may import though they use them only sometimes.
_MISSING = (
    *("caches", "HTMLRewriter", "CompressionStream", "DecompressionStream", "EventSource"),
    *("MessageChannel", "WebAssembly", "Intl", "AbortController", "AbortSignal", "Event"),
    *("Proxy", "Reflect", "Symbol", "BigInt", "String", "Function", "globalThis"),
)


class Missing:
    """A global of JavaScript that does not exist here: it raises when used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self) -> NoReturn:
        raise NotHere(
            f"{self._name} is not available here: `durable dev` runs Python, and has of "
            f"JavaScript what programs of Durable Objects use"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse()


def fetch(resource: Any, **other_options: Any) -> Promise:
    """Send a request to the outside: `workers.fetch`."""
    fetcher = other_options.pop("fetcher", None)
    if fetcher is not None:
        return Promise(fetcher(resource, **other_options))
    return outgoing.fetch(resource, None, **other_options)


def _js_fetch(resource: Any, init: Any = None, **options: Any) -> Promise:
    answer = outgoing.fetch(resource, init, **options)
    return Promise(answer, lambda response: response.js_object, of_runtime)


def wait_until(awaitable: Awaitable[object]) -> None:
    """Go on with *awaitable* after the response of the Worker or object whose code calls this."""
    begin = scope_of("workers.wait_until").wait_until
    if begin is None:
        raise NotHere("wait_until() cannot be used while the Worker's module is imported")
    begin(awaitable)


def import_from_javascript(module_name: str) -> Any:
    """A module of the runtime: only `cloudflare:workers` exists."""
    if module_name == "cloudflare:workers":
        return js_collections.JsObject(_cloudflare_workers())
    raise ImportError(f"Failed to import {module_name!r}: it is not available here")


def _cloudflare_workers() -> dict[str, Any]:
    return {
        "env": env.imported_env,
        "waitUntil": wait_until,
        "DurableObject": entrypoints.DurableObject,
        "WorkerEntrypoint": entrypoints.WorkerEntrypoint,
    }


class NonRetryableError(Exception):
    """An error of workflows, which do not exist here."""


class WebLoop:
    """Pyodide's event loop, which does not exist here: asyncio's runs."""


def _workers() -> dict[str, Any]:
    return {
        "Blob": sdk_forms.Blob,
        "BlobEnding": sdk_forms.BlobEnding,
        "BlobValue": Any,
        "Body": Any,
        "Context": entrypoints.ExecutionContext,
        "DurableObject": entrypoints.DurableObject,
        "FetchKwargs": dict[str, Any],
        "FetchResponse": sdk_messages.FetchResponse,
        "File": sdk_forms.File,
        "FormData": sdk_forms.FormData,
        "FormDataValue": Any,
        "Headers": headers.Headers,
        "JSBody": Any,
        "Request": sdk_messages.Request,
        "RequestInitCfProperties": dict[str, Any],
        "Response": sdk_messages.Response,
        "WorkerEntrypoint": entrypoints.WorkerEntrypoint,
        "WorkflowEntrypoint": entrypoints.WorkflowEntrypoint,
        "env": env.imported_env,
        "fetch": fetch,
        "handler": entrypoints.handler,
        "import_from_javascript": import_from_javascript,
        "patch_env": env.patch_env,
        "python_from_rpc": crossing.python_from_rpc,
        "python_to_rpc": crossing.python_to_rpc,
        "waitUntil": wait_until,
        "wait_until": wait_until,
    }


def _js() -> dict[str, Any]:
    classes: tuple[type[Any], ...] = (
        *(blobs.Blob, blobs.File, blobs.FormData, buffers.ArrayBuffer, buffers.DataView),
        *(buffers.Uint8Array, buffers.Uint8ClampedArray, buffers.Int8Array),
        *(buffers.Uint16Array, buffers.Int16Array, buffers.Uint32Array, buffers.Int32Array),
        *(buffers.Float32Array, buffers.Float64Array, headers.Headers, json_text.JSON),
        *(messages.Request, messages.Response, promises.Promise, scripting.Object),
        *(scripting.TextEncoder, scripting.TextDecoder, sockets.WebSocketPair),
        *(sockets.WebSocketRequestResponsePair, streams.ReadableStream),
        *(streams.WritableStream, streams.TransformStream, urls.URL, urls.URLSearchParams),
    )
    functions: tuple[Callable[..., Any], ...] = (
        *(scripting.setTimeout, scripting.clearTimeout, scripting.setInterval),
        *(scripting.queueMicrotask, scripting.atob, scripting.btoa, scripting.structuredClone),
    )
    return {
        **{name: Missing(f"js.{name}") for name in _MISSING},
        **{each.__name__: each for each in classes},
        **{each.__name__: each for each in functions},
        "clearInterval": scripting.clearInterval,
        "Array": js_collections.JsArray,
        "Date": dates.JsDate,
        "Error": javascript.JsException,
        "IdentityTransformStream": streams.TransformStream,
        "Map": js_collections.JsMap,
        "Number": javascript.JsNumber,
        "RangeError": javascript.JsRangeError,
        "RegExp": javascript.JsRegExp,
        "Set": js_collections.JsSet,
        "TypeError": javascript.JsTypeError,
        "WebSocket": outgoing.OutgoingWebSocket,
        "console": scripting.Console(),
        "crypto": scripting.Crypto(),
        "fetch": _js_fetch,
        "performance": scripting.Performance(),
        "scheduler": scripting.Scheduler(),
        "undefined": None,
    }


def _pyodide_ffi() -> dict[str, Any]:
    return {
        "ConversionError": ffi.ConversionError,
        "InternalError": ffi.InternalError,
        "JsArray": js_collections.JsArray,
        "JsBuffer": buffers.JsBuffer,
        "JsDoubleProxy": javascript.JsDoubleProxy,
        "JsException": javascript.JsException,
        "JsMap": js_collections.JsMap,
        "JsNull": javascript.JsNull,
        "JsPromise": promises.Promise,
        "JsProxy": javascript.JsProxy,
        "can_run_sync": ffi.can_run_sync,
        "create_once_callable": ffi.create_once_callable,
        "create_proxy": ffi.create_proxy,
        "destroy_proxies": ffi.destroy_proxies,
        "jsnull": javascript.jsnull,
        "run_sync": ffi.run_sync,
        "to_js": ffi.to_js,
    }


def modules() -> dict[str, ModuleType]:
    """All of the modules, new ones, by their names."""
    sdk = _workers()
    pyodide_http = {
        "FetchResponse": sdk_messages.FetchResponse,
        "pyfetch": fetch,
    }
    asgi = {"fetch": asgi_bridge.fetch, "websocket": asgi_bridge.websocket}
    contents: Mapping[str, Mapping[str, Any]] = {
        "asgi": asgi,
        "workers": sdk,
        "workers.asgi": asgi,
        "workers.blob": {**sdk},
        "workers.entrypoints": {**sdk, "DurableObjectContext": state.DurableObjectContext},
        "workers.fetch": {**sdk},
        "workers.formdata": {**sdk},
        "workers.request": {**sdk},
        "workers.response": {**sdk},
        "workers.rpc": {
            **sdk,
            "JsDict": crossing.JsDict,
            "_EnvWrapper": env.EnvWrapper,
            "_FetcherWrapper": namespaces.Fetcher,
            "_RpcStubWrapper": namespaces.RpcStub,
        },
        "workers.types": {**sdk},
        "workers.utils": {**sdk},
        "workers.workflows": {"NonRetryableError": NonRetryableError},
        "js": _js(),
        "pyodide": {"__version__": PYODIDE},
        "pyodide.ffi": _pyodide_ffi(),
        "pyodide.http": pyodide_http,
        "pyodide.webloop": {"WebLoop": WebLoop},
    }
    made = {name: ModuleType(name, __doc__) for name in contents}
    for name, module in made.items():
        vars(module).update(contents[name])
        vars(module)["__file__"] = f"<durable.workers {name}>"
        vars(module)["__path__"] = []
        parent, _, own = name.rpartition(".")
        # `workers.fetch` is the function, not the module of that name.
        if parent and own not in contents[parent]:
            setattr(made[parent], own, module)
    return made
