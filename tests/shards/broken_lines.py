"""Lines of calls that are broken, each in one way, for the simulations to catch."""

from __future__ import annotations

from typing import Any

from durable._shards.lines import Line, Owner


class SendsAtOnce(Line):
    """Sends to a new owner while calls are under way at the former one."""

    __slots__ = ()

    def _owner_to_use(self) -> Owner | None:
        owner = self._lines.owner_of(self.shard)
        if owner is None or owner.peer.is_gone or owner == self._refused:
            self._lines.look_for(self.shard)
            return None
        return owner


class PutsBackLast(Line):
    """Puts what comes back behind what came since."""

    __slots__ = ()

    def _has_ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._waiting.extend(self._back)
            self._back.clear()
            self._lines.loop.call_soon(self.go_on)


class Overtakes(Line):
    """Sends what is new although older calls wait."""

    __slots__ = ()

    def send(self, call: Any) -> None:
        owner = self._owner_to_use()
        if owner is None:
            self._wait(call)
        else:
            self._send_to(owner, call)
