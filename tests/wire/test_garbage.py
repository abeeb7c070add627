"""What is no frame, or a frame that makes no sense, ends its connection and harms nothing else."""

from __future__ import annotations

import socket
import struct
import tempfile

import anyio
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import durable
import durable.testing
from durable._runtime.crossings import OwnObjects, crossing_of
from durable._wire.frames import VERSION, BadFrame, FrameReader, Kind, pack
from durable._wire.peer import Greeting, Server, serve

from .test_calls import Counter

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.binary(max_size=40) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
frames = st.lists(plain, max_size=7).flatmap(
    lambda rest: st.sampled_from([*Kind, 77, -1]).map(lambda kind: pack(int(kind), *rest))
)
# Numbers that the receiver may have, so that more of them get further.
likely = st.tuples(
    st.sampled_from([*Kind]),
    st.lists(
        st.integers(-2, 3) | st.booleans() | st.sampled_from(["increment", "echo", b"\x91\x90"]),
        max_size=7,
    ),
).map(lambda made: pack(int(made[0]), *made[1]))
anything = st.binary(max_size=200) | frames | likely

GREETING = pack(
    Kind.HELLO,
    VERSION,
    VERSION,
    {"store": b"store", "process": "p", "pid": 1, "more": {}},
)


def opening(namespace: durable.Namespace[Counter]) -> bytes:
    """A port that leads to an object."""
    return pack(Kind.OPEN, 1, namespace.record.number, namespace.id_from_name("b").raw, "b")


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_bytes_are_frames_or_refused(parts: list[bytes]) -> None:
    reader = FrameReader()
    try:
        for part in parts:
            for frame in reader.feed(part):
                assert isinstance(frame, list)
    except BadFrame:
        pass


@given(st.lists(frames, min_size=1, max_size=8), st.integers(1, 60))
def test_frames_come_whole_however_they_are_cut(sent: list[bytes], size: int) -> None:
    reader = FrameReader()
    stream = b"".join(sent)
    came = []
    for start in range(0, len(stream), size):
        came += list(reader.feed(stream[start : start + size]))

    assert came == [ormsgpack.unpackb(frame[4:]) for frame in sent]


def test_a_length_that_is_too_large_is_refused_at_once() -> None:
    with pytest.raises(BadFrame, match="are allowed"):
        list(FrameReader().feed(struct.pack(">I", 2**31)))


@settings(max_examples=60)
@given(st.lists(anything, max_size=12), st.booleans(), st.booleans())
def test_garbage_harms_nobody_else(sent: list[bytes], greets: bool, opens: bool) -> None:
    """Before and after the greeting, cut off in the middle of a frame or not."""
    anyio.run(_send_garbage, sent, greets, opens)


async def _send_garbage(sent: list[bytes], greets: bool, opens: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with durable.testing.open(f"{folder}/store") as runtime:
            namespace = runtime.namespace(Counter)
            with _served(runtime, f"{folder}/socket") as server:
                peer = socket.socket(socket.AF_UNIX)
                peer.setblocking(False)
                peer.connect(server.path)
                first = GREETING + opening(namespace) if opens else GREETING
                stream = b"".join([first, *sent] if greets else sent)
                peer.send(stream)
                for _ in range(10):
                    await anyio.sleep(0)
                peer.close()
                stub = namespace.get_by_name("a")

                assert await stub.increment() == 1
                while server.peers:
                    await anyio.sleep(0)


class _served:
    """The objects of a runtime, for other processes."""

    def __init__(self, runtime: durable.Runtime, path: str) -> None:
        crossing = crossing_of(runtime._services, runtime._classes)
        reach = OwnObjects(runtime._classes)
        greeting = Greeting(b"store", "objects")
        self._server = serve(path, greeting, crossing, reach, lambda peer: None)

    def __enter__(self) -> Server:
        return self._server

    def __exit__(self, *_: object) -> None:
        self._server.close()
