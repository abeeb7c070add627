"""What does it cost to be observed? Beside it: the same calls with nobody there.

The observer does nothing, so this is what the library pays to tell it. The row without an observer
is in `calls.py`: there is no place on the path of a call that asks whether somebody observes.
"""

from __future__ import annotations

import durable

from .calls import URL, Quiet, repeat
from .harness import Row, Setting, compare, main, time_at_most


def observer(event: object) -> None:
    """Looks away."""


async def ask(setting: Setting) -> list[Row]:
    rounds = setting.pick(3, 31, 101)
    count = setting.pick(20, 500, 1_000)
    bindings = {"QUIET": Quiet}
    async with (
        durable.open(setting.new_folder(), bindings=bindings) as alone,
        durable.open(setting.new_folder(), bindings=bindings, observer=observer) as observed,
    ):
        plain = alone.env.QUIET.get_by_name("one")
        watched = observed.env.QUIET.get_by_name("one")
        calls = await compare(
            repeat(watched.method), repeat(plain.method), rounds=rounds, count=count
        )
        fetches = await compare(
            repeat(lambda: watched.fetch(URL)),
            repeat(lambda: plain.fetch(URL)),
            rounds=rounds,
            count=count,
        )
        aim = time_at_most(3.0)
        return [
            Row("stub.method(), observed", "µs", calls[0], "nobody observes", calls[1], aim),
            Row("stub.fetch(url), observed", "µs", fetches[0], "nobody observes", fetches[1], aim),
        ]


if __name__ == "__main__":
    main(__doc__, ask)
