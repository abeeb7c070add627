"""The ASGI door under real servers: uvicorn, and hypercorn on asyncio and on Trio."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.sync.client import ClientConnection, connect

import durable
import durable.asgi
from durable import Request, Response

from .servers import COMMANDS, START_S_MAX, Server, serving

WAIT_S_MAX = 20.0


# What the others do with several workers is in test_workers.py.
SERVERS = [name for name in COMMANDS if name.startswith(("uvicorn", "hypercorn"))]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The application, alone, under each of the servers."""
    with serving(request.param, "entry:alone", tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=WAIT_S_MAX) as client:
        yield client


def wait_until(condition: Any) -> None:
    """Ask again and again: what happens in another process can only be asked for."""
    end_s = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


# HTTP


def test_requests_reach_an_object(client: httpx.Client) -> None:
    """The entry function finds the object, and its answer is the client's."""
    path = "/counter/a"

    assert [client.get(path).text for _ in range(3)] == ["1", "2", "3"]
    response = client.get(path)
    assert response.headers["content-type"] == "text/plain;charset=UTF-8"
    assert response.headers["content-length"] == "1"


def test_the_url_is_the_one_that_was_sent(server: Server) -> None:
    """Byte for byte: the path is decoded when asked for, and not before."""
    path = b"/echo/a%2Fb%20%c3%a9/?q=1%202&q=%26"
    with socket.create_connection(("127.0.0.1", server.port), WAIT_S_MAX) as connection:
        host = b"example.com:81"
        connection.sendall(
            b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host)
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)

    assert b"\r\nx-url: http://example.com:81%s\r\n" % path in answer


def test_every_header_goes_both_ways(client: httpx.Client) -> None:
    """Several of one name stay several; the client's address cannot be made up."""
    headers = [("X-Twice", "1"), ("x-twice", "2"), ("CF-Connecting-IP", "8.8.8.8")]
    received = client.get("/headers", headers=headers).json()

    assert [value for name, value in received if name == "x-twice"] == ["1", "2"]
    assert [value for name, value in received if name == "cf-connecting-ip"] == ["127.0.0.1"]
    assert client.get("/echo").headers.get_list("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("size", [10, 400_000])
def test_forms_and_cookies_go_both_ways(client: httpx.Client, size: int) -> None:
    """Read at once or as a stream; every cookie that is set is a header of its own."""
    answer = client.post(
        "/form",
        data={"title": "sunset", "tag": ["a", "b"]},
        files={"photo": ("sun.png", bytes(size), "image/png")},
        headers={"cookie": "a=1; b=2"},
    )

    fields = [["title", "sunset"], ["tag", "a"], ["tag", "b"]]
    assert answer.json() == [*fields, ["photo", ["sun.png", size]]]
    assert [cookie.partition(";")[0] for cookie in answer.headers.get_list("set-cookie")] == [
        "a=1",
        "b=2",
        "new=1",
    ]
    assert client.post("/form", data={"title": "žluť"}).json() == [["title", "žluť"]]


@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
def test_bodies_arrive_whole(client: httpx.Client, size: int) -> None:
    """Short ones and long ones, of any bytes."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    assert client.post("/echo", content=body).content == body


def test_a_body_is_streamed_both_ways(client: httpx.Client) -> None:
    """Through the object, chunk by chunk."""

    def chunks() -> Iterator[bytes]:
        yield from (b"one ", b"two ", b"three")

    assert client.put("/stream", content=chunks()).content == b"ONE TWO THREE"


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_has_a_limit(client: httpx.Client, is_chunked: bool) -> None:
    """Whether its length was said or not, one byte more is answered as 413."""

    def chunks() -> Iterator[bytes]:
        for _ in range(11):
            yield b"x" * 100_000

    content: Any = chunks() if is_chunked else b"x" * 1_000_001
    try:
        response = client.post("/echo", content=content)
    except (httpx.WriteError, httpx.ReadError):
        return  # the server answered and closed while the client was still sending
    assert response.status_code == 413


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    """The length is said, the body is not sent, and the object sees the method."""
    response = client.head("/echo")
    assert response.headers["x-method"] == "HEAD"
    response = client.head("/counter/head")

    assert (response.headers["content-length"], response.content) == ("1", b"")
    assert client.get("/counter/head").text == "2"


def test_an_answer_without_content_has_none(client: httpx.Client) -> None:
    """204 has neither body nor length."""
    response = client.get("/empty")

    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers


def test_an_error_is_500_and_logged_once(server: Server, client: httpx.Client) -> None:
    """The client learns nothing of it, the log has the traceback."""
    before = server.log.read_text().count("ValueError: secret")
    response = client.get("/boom")

    assert (response.status_code, response.text) == (500, "Internal Server Error")
    server.wait_logged("ValueError: secret", before + 1)
    client.get("/counter/a")
    assert server.log.read_text().count("ValueError: secret") == before + 1


def test_an_overloaded_object_is_503(client: httpx.Client) -> None:
    """The client may come again, and is told when."""
    response = client.get("/overloaded")

    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


def test_an_entry_function_must_answer(client: httpx.Client) -> None:
    """None is no response."""
    assert client.get("/nothing").status_code == 500


def test_an_upgrade_is_required_for_a_web_socket(client: httpx.Client) -> None:
    """A socket cannot be answered to a plain request."""
    response = client.get("/room", headers={"upgrade": "websocket"})

    assert response.status_code in {400, 426}


def test_a_body_that_breaks_off_is_not_taken_for_whole(client: httpx.Client) -> None:
    """The connection is closed in the middle."""
    with pytest.raises(httpx.RemoteProtocolError):
        client.get("/stream/broken")


def test_a_client_that_goes_away_ends_the_stream(client: httpx.Client) -> None:
    """The object's generator is closed, also if it would never end by itself."""
    with client.stream("GET", "/stream/endless") as response:
        assert next(response.iter_bytes()).startswith(b"tick")

    wait_until(lambda: client.get("/stream/ended").text == "True")


def test_a_client_that_goes_away_cancels_the_entry_function(client: httpx.Client) -> None:
    """What waits for nobody does not wait."""
    before = int(client.get("/cancelled").text)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/wait", timeout=0.3)

    wait_until(lambda: int(client.get("/cancelled").text) == before + 1)


def post_without_end(server: Server, path: str, size: int) -> socket.socket:
    """Send a request with a body of which *size* bytes come and the end does not."""
    peer = socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S_MAX)
    peer.sendall(f"POST {path} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    for _ in range(size // 50_000):
        peer.sendall(b"c350\r\n" + bytes(50_000) + b"\r\n")
    return peer


def wait_for(peer: socket.socket, part: bytes) -> None:
    got = b""
    while part not in got:
        got += (new := peer.recv(65_536))
        assert new, got


def test_a_client_that_goes_away_between_two_events_ends_the_stream(client: httpx.Client) -> None:
    """At once: the generator waits for something that may not happen for hours."""
    for _ in range(5):
        with client.stream("GET", "/stream/quiet") as response:
            assert next(response.iter_bytes()) == b"data: hello\n\n"

    wait_until(lambda: client.get("/stream/listeners").text == "0")


@pytest.mark.parametrize("size", [0, 50_000, 800_000])
def test_a_client_that_goes_away_is_noticed_behind_a_body_that_nobody_reads(
    server: Server, client: httpx.Client, size: int
) -> None:
    """The body is taken in for that, and thrown away."""
    for _ in range(3):
        with post_without_end(server, "/stream/quiet", size) as peer:
            wait_for(peer, b"hello")

    wait_until(lambda: client.get("/stream/listeners").text == "0")


def test_a_handler_is_told_that_its_client_has_gone(client: httpx.Client) -> None:
    """It is not cancelled; `request.signal` says so."""
    with pytest.raises(httpx.ReadTimeout):
        client.get("/stream/patient", timeout=0.3)

    wait_until(lambda: client.get("/stream/signal").text == "gone")


@pytest.mark.parametrize("app", ["alone", "with_routes"])
@pytest.mark.parametrize("name", ["uvicorn", "hypercorn", "hypercorn-trio"])
def test_a_server_that_is_told_to_stop_does_not_wait_for_events(
    name: str, app: str, tmp_path: Path
) -> None:
    """The stream ends, whole, and the browser connects again, to the server that comes next."""
    with serving(name, f"entry:{app}", tmp_path / "served") as server:
        with httpx.stream("GET", server.url + "/stream/quiet", timeout=WAIT_S_MAX) as response:
            chunks = response.iter_bytes()
            assert next(chunks) == b"data: hello\n\n"
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            if name == "uvicorn":
                assert list(chunks) == []
            server.process.wait(timeout=START_S_MAX)
        assert time.monotonic() - started < 8
        assert "Traceback" not in server.log.read_text() or name != "uvicorn"


# Web sockets


def ends(client: httpx.Client) -> list[Any]:
    found: list[Any] = client.get("/room/ends").json()
    return found


def open_socket(server: Server, path: str = "/room", **options: Any) -> ClientConnection:
    return connect(server.ws_url + path, open_timeout=WAIT_S_MAX, proxy=None, **options)


def test_messages_go_both_ways(server: Server) -> None:
    """Text as text, bytes as bytes, empty ones too."""
    with open_socket(server) as ws:
        for message in ("text", b"\x00bytes", "", b"", "ž🐎", "x" * 200_000):
            ws.send(message)
            assert ws.recv(WAIT_S_MAX) == message


def test_the_answer_to_an_upgrade_has_headers(server: Server) -> None:
    """Cookies, one by one, and the protocol that the object has picked."""
    protocols: Any = ["other", "chat"]
    with open_socket(server, subprotocols=protocols) as ws:
        assert ws.response is not None
        assert ws.response.headers.get_all("set-cookie") == ["a=1", "b=2"]
        assert ws.subprotocol == "chat"


def test_an_object_closes_a_socket(server: Server) -> None:
    """Code and reason are what it says."""
    with open_socket(server) as ws:
        ws.send("close")
        with pytest.raises(websockets.ConnectionClosed):
            ws.recv(WAIT_S_MAX)
        assert (ws.close_code, ws.close_reason) == (4001, "as you wish")


def test_a_client_closes_a_socket(server: Server, client: httpx.Client) -> None:
    """The object is told; hypercorn does not say with which code."""
    before = len(ends(client))
    with open_socket(server) as ws:
        ws.close(3001, "bye")
    wait_until(lambda: len(ends(client)) > before)

    if server.name.startswith("uvicorn"):
        assert ends(client)[-1] == [3001, "bye", True]
    else:
        assert ends(client)[-1][0] == 1006


def test_a_connection_that_is_lost_is_told_as_1006(server: Server, client: httpx.Client) -> None:
    """It is not taken for an empty close frame."""
    before = len(ends(client))
    ws = open_socket(server)
    ws.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: len(ends(client)) > before)

    assert ends(client)[-1] == [1006, "WebSocket disconnected without sending Close frame.", False]


def test_a_reset_closes_the_connection(server: Server) -> None:
    """Without a close frame where the server can do that, with 1011 where it cannot."""
    with open_socket(server) as ws:
        ws.send("abort")
        with pytest.raises(websockets.ConnectionClosed):
            ws.recv(WAIT_S_MAX)
        assert ws.close_code == (1006 if server.name.startswith("uvicorn") else 1011)


@pytest.mark.parametrize(
    ("path", "status"), [("/echo", 200), ("/boom", 500), ("/overloaded", 503), ("/room/ends", 200)]
)
def test_an_upgrade_can_be_refused(server: Server, path: str, status: int) -> None:
    """The answer is that of the entry function."""
    with pytest.raises(websockets.InvalidStatus) as refused:
        open_socket(server, path)

    assert refused.value.response.status_code == status


def test_a_server_that_is_killed_has_kept_what_it_answered(tmp_path: Path) -> None:
    """And one that is stopped closes the store, so the next one can open it."""
    for how, expected in ((signal.SIGKILL, "1"), (signal.SIGINT, "2"), (signal.SIGTERM, "3")):
        with serving("uvicorn", "entry:alone", tmp_path / "served") as server:
            assert httpx.get(server.url + "/counter/a", timeout=WAIT_S_MAX).text == expected
            server.stop(how)


# Inside of other applications


@pytest.mark.parametrize("app", ["in_starlette", "in_fastapi"])
@pytest.mark.parametrize("name", ["uvicorn", "hypercorn-trio"])
def test_the_application_can_be_mounted(name: str, app: str, tmp_path: Path) -> None:
    """Its paths begin where it is mounted, with or without a lifespan of its own."""
    with serving(name, f"entry:{app}", tmp_path / "served") as server:
        assert httpx.get(server.url + "/sub/counter/a", timeout=WAIT_S_MAX).text == "1"
        response = httpx.get(server.url + "/sub/echo/a%2Fb", timeout=WAIT_S_MAX)
        assert response.headers["x-url"].endswith("/echo/a%2Fb")
        with open_socket(server, "/sub/room") as ws:
            ws.send("hi")
            assert ws.recv(WAIT_S_MAX) == "hi"


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_routes_call_stubs(name: str, tmp_path: Path) -> None:
    """A FastAPI application that opens the store itself, converts and forwards."""
    with serving(name, "entry:with_routes", tmp_path / "served") as server:
        assert httpx.post(server.url + "/count/a", timeout=WAIT_S_MAX).json() == 1
        assert httpx.get(server.url + "/room/ends", timeout=WAIT_S_MAX).json() == []
        assert httpx.get(server.url + "/room/x", timeout=WAIT_S_MAX).status_code == 400
        with open_socket(server, "/room") as ws:
            ws.send("hi")
            assert ws.recv(WAIT_S_MAX) == "hi"


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn-trio"])
def test_routes_stream_both_ways(name: str, tmp_path: Path) -> None:
    """A response that is made of the request's body, and one whose client goes away."""
    with serving(name, "entry:with_routes", tmp_path / "served") as server:
        body = b"abc" * 100_000
        sent = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
        response = httpx.post(server.url + "/stream/upper", content=sent, timeout=WAIT_S_MAX)
        assert response.content == body.upper()
        response = httpx.post(server.url + "/stream/upper", content=b"abc", timeout=WAIT_S_MAX)
        assert response.content == b"ABC"

        listeners = server.url + "/stream/listeners"
        for method, path in (
            ("GET", "/stream/quiet"),
            ("POST", "/stream/quiet"),
            ("POST", "/json/quiet"),
        ):
            json = {} if method == "POST" else None
            with httpx.stream(method, server.url + path, json=json, timeout=WAIT_S_MAX) as quiet:
                chunks = quiet.iter_bytes()
                assert next(chunks) == b"data: hello\n\n"
                assert httpx.get(listeners, timeout=WAIT_S_MAX).text == "1"
            wait_until(lambda: httpx.get(listeners, timeout=WAIT_S_MAX).text == "0")


# By hand, without a server


Sent = list[dict[str, Any]]


async def call(app: durable.asgi.Application, path: str = "/", **scope: Any) -> Sent:
    """What *app* sends for a GET of *path*."""
    sent: Sent = []
    incoming = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    base = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"x")]}
    await app({**base, **scope}, receive, send)
    return sent


async def answer_path(request: Request, env: Any) -> Response:
    return Response(request.url.raw_path)


async def fail(request: Request, env: Any) -> Response:
    raise ValueError("secret")


async def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    """And only debug does."""
    async with durable.open(tmp_path) as runtime:
        sent = await call(durable.asgi.app(fail, runtime=runtime, debug=True))
        assert sent[0]["status"] == 500
        assert b"ValueError: secret" in sent[1]["body"]
        sent = await call(durable.asgi.app(fail, runtime=runtime))
        assert sent[1]["body"] == b"Internal Server Error"


@pytest.mark.parametrize(
    ("root", "path", "raw", "expected"),
    [
        ("", "/a b", None, "/a%20b"),
        ("/sub", "/sub", b"/sub", "/"),
        ("/sub", "/sub/x", b"/sub/x", "/x"),
        ("/ž", "/ž/x", b"/%C5%BE/x", "/x"),
        ("/sub", "/subway", b"/subway", "/subway"),
        ("/sub", "/other", b"/other", "/other"),
    ],
)
async def test_paths_begin_where_the_application_is_mounted(
    tmp_path: Path, root: str, path: str, raw: bytes | None, expected: str
) -> None:
    """Where the server gives no raw path, the decoded one is encoded again."""
    async with durable.open(tmp_path) as runtime:
        app = durable.asgi.app(answer_path, runtime=runtime)
        sent = await call(app, path, root_path=root, raw_path=raw)

    assert sent[1]["body"].decode() == expected


@pytest.mark.parametrize("host", [b"a b", b"x/y", b"[::1", b"h:port"])
async def test_a_host_that_is_none_is_a_bad_request(tmp_path: Path, host: bytes) -> None:
    """What makes no URL is answered as 400."""
    async with durable.open(tmp_path) as runtime:
        app = durable.asgi.app(answer_path, runtime=runtime)
        sent = await call(app, headers=[(b"host", host)])

    assert sent[0]["status"] == 400


async def lifespan(app: durable.asgi.Application, *kinds: str) -> Sent:
    sent: Sent = []
    incoming = [{"type": f"lifespan.{kind}"} for kind in kinds]

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "lifespan"}, receive, send)
    return sent


async def test_a_store_that_cannot_be_opened_stops_the_server(tmp_path: Path) -> None:
    """The lifespan fails with the text of the error."""
    async with durable.open(tmp_path):
        sent = await lifespan(durable.asgi.app(answer_path, tmp_path), "startup")

    assert sent[0]["type"] == "lifespan.startup.failed"
    assert str(tmp_path) in sent[0]["message"]


async def test_the_lifespan_opens_and_closes_the_store(tmp_path: Path) -> None:
    """After it the folder is free, and the application can be started again."""
    app = durable.asgi.app(answer_path, tmp_path)
    for _ in range(2):
        sent = await lifespan(app, "startup", "shutdown")
        assert [message["type"].rpartition(".")[2] for message in sent] == ["complete"] * 2
    async with durable.open(tmp_path):
        pass


async def test_bad_arguments_raise_at_once(tmp_path: Path) -> None:
    """Not at the first request."""
    async with durable.open(tmp_path) as runtime:
        with pytest.raises(TypeError, match="not both"):
            durable.asgi.app(answer_path, tmp_path, runtime=runtime)
    with pytest.raises(TypeError, match="needs the path"):
        durable.asgi.app(answer_path)
    with pytest.raises(TypeError, match="takes a runtime that is open"):
        durable.asgi.app(answer_path, runtime=durable.open(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes an async function"):
        durable.asgi.app(None, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        durable.asgi.app(answer_path, tmp_path, nonsense=1)


async def test_responses_are_converted_both_ways() -> None:
    """Status, headers one by one, and the body, whole or streamed."""
    starlette = pytest.importorskip("starlette.responses")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    for body in (b"ab", chunks()):
        ours = Response(body, status=201, headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")])
        theirs = durable.asgi.starlette_response(ours)
        again = durable.asgi.response_of(theirs)
        assert (again.status, await again.bytes()) == (201, b"ab")
        assert again.headers.getall("set-cookie") == ["a=1", "b=2"]
    json = durable.asgi.response_of(starlette.JSONResponse({"a": 1}))
    assert (await json.json(), json.headers["content-type"]) == ({"a": 1}, "application/json")
