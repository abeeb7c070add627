"""Processes of different machines: over TCP, with authentication, with and without TLS."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import durable
import durable.testing
from durable._wire import link, tcp
from durable._wire.authentication import MAGIC, Refused
from durable._wire.frames import FIRST_FRAME_SIZE_MAX
from durable._wire.peer import Greeting, Peer
from durable._wire.tcp import TcpServer, bind, connect_tcp
from tests.cables import Cable

from .certificates import make_tls
from .conftest import LIMITS, Pair, Side

pytestmark = pytest.mark.anyio

SECRET = "the secret of sixteen bytes and more"


class Counter(durable.DurableObject):
    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    def echo(self, value: bytes) -> bytes:
        return value

    async def call(self, fn: Callable[[int], int]) -> int:
        return await fn(1)  # type: ignore[misc, no-any-return]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> durable.PeersTls:
    return make_tls(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def two_sides(tmp_path: Path) -> AsyncIterator[tuple[Side, Side]]:
    async with (
        durable.testing.open(tmp_path / "objects", limits=LIMITS) as objects,
        durable.testing.open(tmp_path / "callers", limits=LIMITS) as callers,
    ):
        yield (
            Side(objects, Greeting(b"store", "objects")),
            Side(callers, Greeting(b"store", "callers")),
        )


def listen(side: Side, settings: durable.Peers, **options: Any) -> tuple[TcpServer, str]:
    """Let others connect with *side*; returns where, too."""
    listener = bind(settings.listen)
    address = settings.advertised(listener.getsockname()[1])
    on_peer = options.pop("on_peer", lambda peer: None)
    server = TcpServer(
        listener, settings, side.greeting, side.crossing, side.reach, on_peer, **options
    )
    return server, address


async def connect_with(
    side: Side, address: str, settings: durable.Peers, process: str = "objects"
) -> Peer:
    return await connect_tcp(address, process, settings, side.greeting, side.crossing, side.reach)


@asynccontextmanager
async def connected(tmp_path: Path, settings: durable.Peers) -> AsyncIterator[Pair]:
    async with two_sides(tmp_path) as (objects, callers):
        met: list[Peer] = []
        server, address = listen(objects, settings, on_peer=met.append)
        try:
            peer = await connect_with(callers, address, settings)
            while not met:
                await anyio.sleep(0)
            yield Pair(objects, callers, server, peer, met[0])  # type: ignore[arg-type]
        finally:
            server.close()


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("listens", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
async def test_calls_go_over_tcp(
    tmp_path: Path, listens: str, is_encrypted: bool, tls: durable.PeersTls
) -> None:
    """Small and large, to and fro."""
    if "::" in listens and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    settings = durable.Peers(listen=listens, secret=SECRET, tls=tls if is_encrypted else None)
    async with connected(tmp_path, settings) as pair:
        stub = pair.stub(Counter, "a")
        large = bytes(range(256)) * 20_000

        assert await stub.increment() == 1
        assert await stub.increment(by=4) == 5
        assert await stub.echo(large) == large
        assert await stub.call(lambda value: value + 1) == 2
        assert pair.caller.greeting is not None
        assert pair.caller.greeting.process == "callers"
        pair.peer.close()


async def test_every_address_of_a_machine_is_listened_at(tmp_path: Path) -> None:
    """`[::]` is those of IPv4, too."""
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with two_sides(tmp_path) as (objects, callers):
        settings = durable.Peers(listen="[::]:0", advertise="127.0.0.1:0", secret=SECRET)
        server, address = listen(objects, settings)
        peer = await connect_with(callers, address, settings)

        assert address.startswith("127.0.0.1:")
        assert peer.greeting is not None
        peer.close()
        server.close()


SETTINGS = durable.Peers(listen="127.0.0.1:0", secret=SECRET)


async def test_one_with_another_secret_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both sides say so, and neither says the secret."""
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, SETTINGS)
        other = attrs.evolve(SETTINGS, secret="a secret of somebody else's store")
        with pytest.raises(Refused, match="another secret"):
            await connect_with(callers, address, other)
        while not caplog.messages:
            await anyio.sleep(0.001)

        assert "does not know the secret" in caplog.text
        assert SECRET not in caplog.text
        assert not server.peers
        server.close()


async def test_one_without_tls_is_refused_where_there_is_tls(
    tmp_path: Path, tls: durable.PeersTls
) -> None:
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, attrs.evolve(SETTINGS, tls=tls))
        plain = attrs.evolve(SETTINGS, tls=None)
        server.stranger_s_max = 0.05  # both wait for the other to begin
        with pytest.raises(durable.ObjectUnreachable):
            await connect_with(callers, address, plain)
        server.close()
        server, address = listen(objects, plain)
        with pytest.raises(durable.ObjectUnreachable):
            await connect_with(callers, address, attrs.evolve(SETTINGS, tls=tls))
        server.close()


async def test_a_certificate_of_another_authority_is_refused(
    tmp_path: Path, tls: durable.PeersTls
) -> None:
    """Although it comes with the right secret."""
    (tmp_path / "other").mkdir()
    other = make_tls(tmp_path / "other", "other")
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, attrs.evolve(SETTINGS, tls=tls))
        with pytest.raises(durable.ObjectUnreachable, match=r"(?i)certificate"):
            await connect_with(callers, address, attrs.evolve(SETTINGS, tls=other))
        server.close()


async def test_nobody_listens(tmp_path: Path) -> None:
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, SETTINGS)
        server.close()
        with pytest.raises(durable.ObjectUnreachable, match=r"refused"):
            await connect_with(callers, address, SETTINGS)
        with pytest.raises(durable.ObjectUnreachable):
            await connect_with(callers, "no-such-host.invalid:1", SETTINGS)


async def test_another_process_listens_where_one_has_listened(tmp_path: Path) -> None:
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, SETTINGS)
        with pytest.raises(durable.ObjectUnreachable, match="another process"):
            await connect_with(callers, address, SETTINGS, process="one that is gone")
        server.close()


async def test_a_process_is_the_one_that_it_has_proved_to_be(tmp_path: Path) -> None:
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, SETTINGS)
        liar = Greeting(b"store", "liar")
        peers: list[Peer] = []
        server.on_peer = peers.append
        callers.greeting = attrs.evolve(callers.greeting, process="another")
        tcp_peer, tcp.Peer = (
            tcp.Peer,
            lambda loop, sock, greeting, *rest: Peer(  # type: ignore
                loop, sock, liar if greeting.process == "another" else greeting, *rest
            ),
        )
        try:
            peer = await connect_with(callers, address, SETTINGS)
            while not peer.is_gone:
                await anyio.sleep(0.001)
        finally:
            tcp.Peer = tcp_peer  # type: ignore[misc]

        assert not peers
        server.close()


# Strangers


async def open_socket(address: str) -> anyio.abc.SocketStream:
    host, _, port = address.rpartition(":")
    return await anyio.connect_tcp(host, int(port))


async def read_to_end(stream: anyio.abc.SocketStream) -> bytes:
    read = b""
    try:
        while True:
            read += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return read


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
        MAGIC + bytes(700),
        bytes(700),
    ],
    ids=["nothing", "http", "tls", "zeros after the magic", "zeros"],
)
async def test_a_stranger_is_turned_away_in_bounded_time(tmp_path: Path, sent: bytes) -> None:
    """Whatever it says, or if it says nothing; and others are let in meanwhile."""
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, SETTINGS, stranger_s_max=0.2)
        async with await open_socket(address) as stranger:
            if sent:
                await stranger.send(sent)
            peer = await connect_with(callers, address, SETTINGS)
            with anyio.fail_after(5):
                said = await read_to_end(stranger)

            assert said.startswith(MAGIC)
            assert len(said) <= 200
            assert peer.greeting is not None
            peer.close()
        server.close()


async def test_strangers_do_not_keep_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the connections that do not authenticate the oldest is closed."""
    monkeypatch.setattr(tcp, "STRANGERS_MAX", 3)
    async with two_sides(tmp_path) as (objects, callers):
        server, address = listen(objects, SETTINGS)
        strangers = [await open_socket(address) for _ in range(4)]
        with anyio.fail_after(5):
            await read_to_end(strangers[0])
        peer = await connect_with(callers, address, SETTINGS)

        assert peer.greeting is not None
        peer.close()
        server.close()
        for stranger in strangers:
            await stranger.aclose()


async def test_a_listener_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable._wire.strangers.Stranger.__init__.__defaults__", (0.05,))
    async with two_sides(tmp_path) as (_, callers):
        with bind("127.0.0.1:0") as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(durable.ObjectUnreachable, match="has not authenticated"):
                await connect_with(callers, address, SETTINGS)


# Cables


async def test_a_cut_cable_is_noticed_at_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is half open: in SILENT_BEATS_MAX beats, and calls under way are lost."""
    monkeypatch.setattr(link, "BEAT_S", 0.02)
    async with two_sides(tmp_path) as (objects, callers):
        met: list[Peer] = []
        server, address = listen(objects, SETTINGS, on_peer=met.append)
        cable = Cable(address)
        peer = await connect_with(callers, cable.address, SETTINGS)
        gone: list[str] = []
        peer.on_gone.append(gone.append)
        while not met:
            await anyio.sleep(0.001)
        cable.is_cut = True
        with anyio.fail_after(5):
            with pytest.raises(durable.ObjectUnreachable):
                await peer.request("nothing")
            while not met[0].is_gone:
                await anyio.sleep(0.001)

        assert "nothing was heard of it" in gone[0]
        cable.close()
        server.close()


async def test_a_frame_that_is_too_long_ends_the_connection(tmp_path: Path) -> None:
    """A process that has proved who it is has not thereby become well-behaved."""
    async with connected(tmp_path, SETTINGS) as pair:
        size_max = pair.caller.link.connection.frames.size_max
        pair.peer.link.connection.send((size_max + 1).to_bytes(4, "big") + b"x")
        with anyio.fail_after(5):
            while not (pair.caller.is_gone and pair.peer.is_gone):
                await anyio.sleep(0.001)

        assert size_max > LIMITS.peer_message_size_max > FIRST_FRAME_SIZE_MAX
        assert await pair.local(Counter, "a").increment() == 1


def test_a_port_that_is_taken_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen at '127.0.0.1:{port}'"):
            bind(f"127.0.0.1:{port}")
