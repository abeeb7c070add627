"""A peer: another process of the store, as this one speaks with it; and how the two meet.

The two sides of an established connection are alike: each calls objects of the other.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen

from durable._border.channel import Channel
from durable._engine.codec import encode
from durable._gates.futures import Answer, PendingAnswer
from durable._loop.loop import Loop
from durable._model.errors import ObjectUnreachable
from durable._model.ids import ObjectId
from durable._model.log import log

from .answers import Answers
from .authentication import Refused
from .calls import Calls, Port, Target
from .channel import RemoteChannel
from .crossing import Crossing
from .far_calls import Invoker, NoObject, Question
from .forks import keep_from_children
from .frames import FRAME_OVERHEAD, VERSION, VERSION_MIN, Kind
from .link import Link
from .reading import Readers
from .served import Reach
from .serving import ServedCalls
from .sockets import Sockets
from .streams import Streams
from .things import LinkThings

BACKLOG = 128


@frozen
class Greeting:
    """What a process says of itself before anything else."""

    store: bytes  # the id of its store
    process: str  # unlike that of every other process, and new after a restart
    pid: int = field(factory=os.getpid)
    version: int = VERSION
    version_min: int = VERSION_MIN
    # What else peers may want to know; values of MessagePack.
    more: dict[str, Any] = field(factory=dict)


_PEER = NoObject(0, "another process")


class Peer:
    """Another process."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        greeting: Greeting,
        crossing: Crossing,
        reach: Reach,
        on_greeted: Callable[[Peer], None],
        proven: str | None = None,
    ) -> None:
        """*proven*: the process that the other side has authenticated as, if it had to."""
        self.link = Link(loop, sock)
        self.crossing = crossing
        crossing.be(greeting.process)
        # The greeting of the other side; None until it has come.
        self.greeting: Greeting | None = None
        self._own = greeting
        self._proven = proven
        self._on_greeted = on_greeted
        self._reach = reach
        self._calls: Calls
        # One of the two refuses to speak with the other.
        self.is_refused = False
        self.link.on[Kind.HELLO] = self._hello
        self.link.on[Kind.REFUSED] = self._refused
        self.link.on[Kind.NOTICE] = self._notice_came
        self.link.send(
            Kind.HELLO,
            greeting.version,
            greeting.version_min,
            {
                "store": greeting.store,
                "process": greeting.process,
                "pid": greeting.pid,
                "more": greeting.more,
                "message_size_max": crossing.services.limits.peer_message_size_max,
            },
        )

    @property
    def is_gone(self) -> bool:
        return self.link.is_gone

    @property
    def on_gone(self) -> list[Callable[[str], None]]:
        """Called with the reason, once, when the peer is gone."""
        return self.link.on_gone

    def port(self, target: Target) -> Port:
        """A way to one incarnation of an object of the peer."""
        return self._calls.port(target)

    def channel(self, class_number: int, object_id: ObjectId) -> Channel:
        """A channel to an object of the peer, for calls that can go no other way."""
        target = Target(class_number, object_id, self.crossing.class_of(class_number))
        return RemoteChannel(self.crossing, target, self.port(target))

    def request(self, name: str, value: Any = None) -> Answer[Any]:
        """Ask the peer the question *name*, by its `Crossing.requests`; plain values only.

        Raises what the peer's handler raises, DurableError if it has none of that name,
        ObjectUnreachable.
        """
        question = Question(self.link.loop, _PEER, Kind.ASK, name, (name, encode(value)), None)
        self._calls.send_or_fail(question)
        return question

    def notify(self, name: str, value: Any) -> None:
        """Send the peer a notice, behind all that was sent to it before. Its handler there is in
        `Crossing.on_notice`."""
        self.link.send(Kind.NOTICE, name, value)

    def _notice_came(self, frame: list[Any]) -> None:
        _, name, value, *_ = frame
        take = self.crossing.on_notice.get(name)
        if take is not None:  # else it is from a later version
            take(self, value)

    def close(self, why: str = "the other process has closed the connection") -> None:
        """End the connection: calls under way get ObjectUnreachable."""
        self.link.end(why)

    def _hello(self, frame: list[Any]) -> None:
        _, version, version_min, said, *_ = frame
        if self.greeting is not None:
            raise ValueError("a second greeting")
        theirs = Greeting(
            said["store"], said["process"], said["pid"], version, version_min, said["more"]
        )
        own = self._own
        if theirs.version < own.version_min or own.version < theirs.version_min:
            self._refuse(
                f"process {theirs.pid} speaks version {theirs.version} of the protocol between "
                f"processes and understands {theirs.version_min}, and process {own.pid} speaks "
                f"{own.version} and understands {own.version_min}; let all processes of a store "
                f"run versions of durable that are next to each other"
            )
            return
        if theirs.store != own.store:
            self._refuse(f"process {theirs.pid} has another store than process {own.pid}")
            return
        if self._proven not in {None, theirs.process}:
            self._refuse(f"process {theirs.pid} claims another name than it has proved")
            return
        self.greeting = theirs
        limits = self.crossing.services.limits
        self.link.connection.frames.size_max = (
            max(limits.peer_message_size_max, said.get("message_size_max", 0)) + FRAME_OVERHEAD
        )
        self._speak(theirs)
        self._on_greeted(self)

    def _speak(self, theirs: Greeting) -> None:
        """Both have greeted: accept frames of all kinds."""
        link, crossing = self.link, self.crossing
        things = LinkThings(link, crossing.things)
        streams = Streams(link, things)
        streams.write = lambda number, item: crossing.writer_of(number).write(item, None)
        self._calls = Calls(link, things, streams, crossing.searches)
        self.sockets = Sockets(link, things, crossing.moves, theirs.process)
        invoke = Invoker(crossing, self._calls)
        self._calls.readers = readers = Readers(crossing, things, streams, self.sockets, invoke)
        readers.process = theirs.process
        self.served = ServedCalls(link, things, streams, readers, self._reach)
        self.answers = Answers(link, crossing.requests, self)

    def _refuse(self, why: str) -> None:
        self.is_refused = True
        self.link.refuse(why)

    def _refused(self, frame: list[Any]) -> None:
        self.is_refused = True
        self.link.end(f"the other process refuses: {frame[1]}")

    def __repr__(self) -> str:
        pid = "not greeted" if self.greeting is None else f"process {self.greeting.pid}"
        return f"<Peer {pid}, {self.link!r}>"


@define(eq=False)
class Server:
    """Accepts connections from the other processes of a store."""

    path: str
    greeting: Greeting
    crossing: Crossing
    reach: Reach
    # Called with each process that has connected and greeted.
    on_peer: Callable[[Peer], None]
    peers: set[Peer] = field(factory=set)
    _listener: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._listener = listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _bind(listener, self.path)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            keep_from_children(listener)
        except BaseException:
            listener.close()
            raise
        self.crossing.services.loop.watch_readable(listener, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError | ConnectionError):
                log.error("a process that wants to connect could not be let in: %s", error)
            return
        peer = Peer(
            self.crossing.services.loop,
            sock,
            self.greeting,
            self.crossing,
            self.reach,
            self.on_peer,
        )
        self.peers.add(peer)
        peer.on_gone.append(lambda _: self.peers.discard(peer))

    def close(self) -> None:
        """Stop listening, and end the connections that were accepted here."""
        if self._listener.fileno() < 0:
            return
        self.crossing.services.loop.forget(self._listener)
        self._listener.close()
        with suppress(OSError):
            os.unlink(self.path)
        for peer in list(self.peers):
            peer.close()


def _bind(listener: socket.socket, path: str) -> None:
    """Listen at *path*, which only this user may connect to. Raises OSError."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)  # left by a process that is gone
    before = os.umask(0o177)
    try:
        listener.bind(path)
    except OSError as error:
        raise OSError(
            error.errno, f"processes cannot listen at {path!r} for each other: {error}"
        ) from error
    finally:
        os.umask(before)


def serve(
    path: str,
    greeting: Greeting,
    crossing: Crossing,
    reach: Reach,
    on_peer: Callable[[Peer], None],
) -> Server:
    """Listen at the unix socket *path*, which only this user may connect to. Raises OSError."""
    return Server(path, greeting, crossing, reach, on_peer)


def meet_self(greeting: Greeting, crossing: Crossing, reach: Reach) -> Answer[Peer]:
    """This process as its own peer, for calls that are already in a frame when their object turns
    out to be here."""
    loop = crossing.services.loop
    answer: PendingAnswer[Peer] = PendingAnswer(loop)
    one, other = socket.socketpair()
    near = Peer(loop, one, greeting, crossing, reach, answer.resolve)
    far = Peer(loop, other, greeting, crossing, reach, _nothing)
    near.on_gone.append(far.close)
    return answer


def _nothing(_: Peer) -> None:
    """A process needs no notice of itself."""


def connect(path: str, greeting: Greeting, crossing: Crossing, reach: Reach) -> Answer[Peer]:
    """The process that listens at *path*, once both have greeted.

    Raises ObjectUnreachable if none listens there or it does not greet in time, and Refused if one
    of the two refuses to speak with the other.
    """
    loop = crossing.services.loop
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    answer: PendingAnswer[Peer] = PendingAnswer(loop)
    sock.setblocking(False)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        answer.fail(ObjectUnreachable(f"no process listens at {path!r}: {error}"))
        return answer
    peer = Peer(loop, sock, greeting, crossing, reach, answer.resolve)

    def gone(why: str) -> None:
        kind = Refused if peer.is_refused else ObjectUnreachable
        answer.fail(kind(f"the process that listens at {path!r} did not greet: {why}"))

    peer.on_gone.append(gone)
    return answer
