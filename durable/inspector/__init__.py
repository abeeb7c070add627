"""The inspector: a page that shows what lives in a store, and wakes nobody.

    durable inspect state

opens it in a browser. An application mounts it beside its own pages:

    app.mount("/inspect", durable.inspector.app(runtime, token=os.environ["INSPECT_TOKEN"]))
"""

from .application import Inspector, app

__all__ = ["Inspector", "app"]
