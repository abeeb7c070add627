"""A primary with a synchronous standby: no commit is confirmed before both have it.

The standby takes the primary's place when that is gone, and a new standby is made of it then.
"""

from __future__ import annotations

import signal
import time

from attrs import define, field

from tests.postgres import START_S_MAX, Server


@define(eq=False)
class Pair:
    """Both servers, at two ports; each of them may be the primary."""

    primary: Server = field(factory=lambda: Server(fsync=True))
    standby: Server = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._follow(Server(fsync=True, primary=self.primary))

    def _follow(self, standby: Server) -> None:
        """From now on no commit is confirmed that *standby* does not have."""
        self.standby = standby
        self.primary.execute("alter system set synchronous_standby_names = 'standby'")
        self.primary.execute("select pg_reload_conf()")
        until_s = time.monotonic() + START_S_MAX
        while self.primary.execute("select sync_state from pg_stat_replication") != [("sync",)]:
            assert time.monotonic() < until_s, "the standby does not follow"
            time.sleep(0.02)

    def url(self, of_primary: str) -> str:
        """That of a database by both servers, of which a client takes the one that is primary."""
        before, _, name = of_primary.rpartition("/")
        return f"{before},127.0.0.1:{self.standby.port}/{name}"

    def kill_primary(self) -> None:
        """End it as a crash does: it says nothing to anybody."""
        self.primary.stop(signal.SIGQUIT)

    def promote(self) -> Server:
        """Let the standby be the primary, whatever the other one does; returns that one. Until
        `follow_anew` it commits without a standby."""
        old, self.primary = self.primary, self.standby
        self.primary.execute("select pg_promote(true, 30)")
        return old

    def follow_anew(self, port: int) -> None:
        """Make a standby at *port*, from the primary that there is."""
        self._follow(Server(fsync=True, primary=self.primary, port=port))

    def close(self) -> None:
        self.standby.close()
        self.primary.close()
