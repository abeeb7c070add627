"""What does it cost to call an object from a thread? Beside it: a hop through two queues.

And the same call through anyio's portal, which makes a task for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from anyio.from_thread import start_blocking_portal

import durable
import durable.blocking

from .calls import Quiet
from .harness import Row, Setting, Work, compare, main, time_at_most


def repeat(fn: Callable[[], object]) -> Work:
    async def work(count: int) -> None:
        for _ in range(count):
            fn()

    return work


async def ask(setting: Setting) -> list[Row]:
    rounds = setting.pick(3, 31, 101)
    count = setting.pick(20, 500, 1_000)
    bindings = {"QUIET": Quiet}
    there: SimpleQueue[object] = SimpleQueue()
    back: SimpleQueue[object] = SimpleQueue()

    def echo() -> None:
        while (asked := there.get()) is not None:
            back.put(asked)

    def hop() -> object:
        there.put(1)
        return back.get()

    thread = threading.Thread(target=echo)
    thread.start()
    try:
        with (
            durable.blocking.open(setting.new_folder(), bindings=bindings) as runtime,
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(
                durable.open(setting.new_folder(), bindings=bindings)
            ) as other,
        ):
            stub = runtime.env.QUIET.get_by_name("one")
            in_portal = other.env.QUIET.get_by_name("one")

            async def call() -> object:
                return await in_portal.method()

            ours = repeat(stub.method)
            hops = await compare(ours, repeat(hop), rounds=rounds, count=count)
            calls = await compare(
                ours, repeat(lambda: portal.call(call)), rounds=rounds, count=count
            )
    finally:
        there.put(None)
        thread.join()
    return [
        Row("blocking stub.method()", "µs", hops[0], "a hop through two queues", hops[1]),
        Row(
            "blocking stub.method(), too",
            "µs",
            calls[0],
            "through anyio's portal",
            calls[1],
            time_at_most(0.8),
        ),
    ]


if __name__ == "__main__":
    main(__doc__, ask)
