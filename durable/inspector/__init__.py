"""The inspector: a page that shows the contents of a store, and wakes no object.

    durable inspect state

opens it in a browser. An application mounts it beside its own pages:

    app.mount("/inspect", durable.inspector.app(runtime, token=os.environ["INSPECT_TOKEN"]))
"""

from .application import Inspector, app

__all__ = ["Inspector", "app"]
