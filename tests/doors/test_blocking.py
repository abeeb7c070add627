"""Objects for code that does not await: from any thread, and closed at the end of the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import durable
import durable.blocking
from durable.blocking.opening import open_now

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}


class Counter(durable.DurableObject):
    async def increment(self, by: int = 1) -> int:
        value: int = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    def peek(self) -> int:
        return int(self.ctx.storage.kv.get("value", 0))

    async def ticks(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
        finally:
            self.ctx.storage.put("ended", True)

    async def has_ended(self) -> bool:
        return bool(await self.ctx.storage.get("ended", False))

    async def fail(self) -> None:
        raise ValueError("in the object")

    async def exit(self) -> None:
        raise SystemExit(3)

    async def fetch(self, request: durable.Request) -> durable.Response:
        body = await request.text()
        if request.url.path == "/stream":

            async def chunks() -> AsyncIterator[bytes]:
                for letter in body:
                    yield letter.encode()

            return durable.Response(chunks())
        return durable.Response(f"{request.method} {body}", status=201, headers={"x-a": "b"})

    async def other(self) -> dict[str, Any]:
        return {"stubs": [self.env.COUNTERS.get_by_name("other")], "ids": (self.ctx.id,)}

    async def call(self, stub: Any, others: list[Any]) -> list[int]:
        return [await each.increment(10) for each in (stub, *others)]

    async def adder(self) -> Any:
        async def add(number: int) -> int:
            return await self.increment(number)

        return add

    async def apply(self, fn: Any, number: int) -> int:
        return int(await fn(number))

    async def wait(self) -> str:
        WAITING.set()
        await self.env.DOOR.wait()
        return "done"

    async def asks_blocking(self) -> None:
        self.env.BLOCKING[0].env.COUNTERS.get_by_name("x").increment()

    async def closes(self) -> None:
        self.env.BLOCKING[0].close()

    async def thread(self) -> int:
        import anyio

        stub = self.env.BLOCKING[0].env.COUNTERS.get_by_name("from a thread")
        return await anyio.to_thread.run_sync(stub.increment)


WAITING = threading.Event()


@pytest.fixture(params=list(LOOPS))
def loop(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return LOOPS[request.param]


@pytest.fixture
def runtime(tmp_path: Path, loop: tuple[str, dict[str, Any]]) -> Iterator[durable.blocking.Runtime]:
    backend, options = loop
    blocking: list[durable.blocking.Runtime] = []
    opening = durable.open(
        tmp_path / "store",
        bindings={"COUNTERS": Counter},
        vars={"BLOCKING": blocking, "SIZE": 3},
        limits=durable.Limits(shutdown_s_max=1.0),
    )
    with open_now(opening, backend, **options) as runtime:
        blocking.append(runtime)
        yield runtime


@pytest.fixture
def counter(runtime: durable.blocking.Runtime) -> durable.blocking.Stub[Counter]:
    return runtime.namespace(Counter).get_by_name("a")


Counters = durable.blocking.Stub[Counter]


# Calls


def test_a_call_returns_what_the_method_returns(counter: Counters) -> None:
    """By its name, by `rpc`, and by what it is in the class; plain methods too."""
    assert counter.increment() == 1
    assert counter.increment(by=2) == 3
    assert counter.rpc.increment() == 4
    assert counter.call(Counter.increment, 5) == 9
    assert counter.call(Counter.peek) == 9
    assert counter.peek() == 9


def test_a_call_with_a_key_happens_once(counter: Counters) -> None:
    assert counter.call(Counter.increment, 5, once="key") == 5
    assert counter.call(Counter.increment, 5, once="key") == 5
    assert counter.peek() == 5


def test_what_the_object_raises_is_raised(counter: Counters) -> None:
    """As itself, once and again; a name that is no method at once."""
    for _ in range(2):
        with pytest.raises(ValueError, match="in the object"):
            counter.fail()
    with pytest.raises(durable.NoSuchMethod, match="incremnt"):
        counter.incremnt
    with pytest.raises(durable.UnstorableValue):
        counter.increment(object())
    with pytest.raises(SystemExit):
        counter.exit()
    assert counter.increment() == 1


def test_namespaces_are_as_they_are_elsewhere(runtime: durable.blocking.Runtime) -> None:
    counters = runtime.namespace(Counter)
    assert runtime.env.SIZE == 3
    assert runtime.env.COUNTERS.id_from_name("a") == counters.id_from_name("a")
    a_id = counters.id_from_string(str(counters.id_from_name("a")))
    assert counters.get(a_id) == counters.get_by_name("a")
    assert counters.get_by_name("a").name == "a"
    assert counters.get_by_name("a").id == a_id
    assert counters.get(counters.new_unique_id()).increment() == 1
    assert (counters.cls, counters.unique_key) == (Counter, "Counter")
    for number in range(300):
        counters.get_by_name(f"{number:03}").increment()

    assert len(list(counters.objects())) == 301
    assert sorted(str(stored.name) for stored in counters.objects("00")) == [
        f"00{digit}" for digit in range(10)
    ]
    assert next(counters.objects()).has_alarm is False
    counters.delete(counters.id_from_name("000"))
    assert len(list(counters.objects())) == 300
    assert runtime.statistics().live_objects >= 300


def test_generators_are_plain_iterators(counter: Counters) -> None:
    """One that is left ends the generator: when it is dropped, closed, or its block is left."""
    assert list(counter.ticks(4)) == [0, 1, 2, 3]
    assert list(counter.call(Counter.ticks, 2)) == [0, 1]

    for leave in ("dropped", "closed", "left"):
        ticks = counter.ticks(1_000)
        assert next(ticks) == 0
        if leave == "closed":
            ticks.close()
        elif leave == "left":
            with ticks as left:
                assert next(left) == 1
        del ticks
        while not counter.has_ended():
            time.sleep(0.001)


def test_fetch_gives_a_response_to_be_read(counter: Counters) -> None:
    response = counter.fetch("https://counter/", method="POST", body="x")
    assert (response.status, response.ok, response.headers["x-a"]) == (201, True, "b")
    assert response.text() == "POST x"
    with pytest.raises(TypeError, match="read"):
        response.text()

    assert counter.fetch("https://counter/").bytes() == b"GET "
    streamed = counter.fetch("https://counter/stream", method="PUT", body=iter([b"ab", b"c"]))
    assert list(streamed.stream()) == [b"a", b"b", b"c"]
    assert counter.fetch(durable.Request("https://counter/")).text() == "GET "


def test_stubs_and_functions_cross_in_both_directions(
    runtime: durable.blocking.Runtime, counter: Counters
) -> None:
    """Wherever they are in what is sent."""
    others = counter.other()
    (other,) = others["stubs"]
    assert isinstance(other, durable.blocking.Stub)
    assert other.increment() == 1
    assert others["ids"] == (counter.id,)
    third = runtime.namespace(Counter).get_by_name("third")
    assert counter.call(Counter.call, other, [third]) == [11, 10]
    add = counter.adder()
    assert (add(5), add(number=5)) == (5, 10)
    assert counter.apply(lambda number: number + 1, 1) == 2


def test_threads_call_at_the_same_time(runtime: durable.blocking.Runtime) -> None:
    """Nothing is lost, and calls of several objects go on beside each other."""
    counters = runtime.namespace(Counter)

    def work() -> None:
        for number in range(100):
            counters.get_by_name(f"{number % 5}").increment()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(counters.get_by_name(str(number)).peek() for number in range(5)) == 800


def test_an_observer_is_told(runtime: durable.blocking.Runtime, counter: Counters) -> None:
    told: list[Any] = []
    end = runtime.observe(told.append)
    counter.increment()
    end()
    seen = len(told)
    counter.increment()

    assert seen > 0
    assert len(told) == seen


def test_the_processes_of_the_store_are_listed(runtime: durable.blocking.Runtime) -> None:
    assert [peer.pid for peer in runtime.peers()] == [os.getpid()]


def test_a_class_can_be_replaced(runtime: durable.blocking.Runtime, counter: Counters) -> None:
    later = type("Counter", (Counter,), {"peek": lambda self: -1})
    counter.increment()
    runtime.replace(Counter, later)

    assert runtime.env.COUNTERS.get_by_name("a").peek() == -1


# The wrong place


def test_a_blocking_call_in_the_loop_of_the_objects_is_refused(counter: Counters) -> None:
    """It would wait for itself. A thread that the object has started may make it."""
    with pytest.raises(durable.blocking.WrongThread, match=r"would wait for itself.*self\.env"):
        counter.asks_blocking()
    with pytest.raises(durable.blocking.WrongThread, match="cannot be closed from its own"):
        counter.closes()
    assert counter.thread() == 1


def test_after_the_end_calls_are_refused(runtime: durable.blocking.Runtime) -> None:
    counter = runtime.namespace(Counter).get_by_name("a")
    ticks = counter.ticks(3)
    assert next(ticks) == 0
    runtime.close()
    runtime.close()

    for call in (counter.increment, runtime.statistics, lambda: next(ticks)):
        with pytest.raises(durable.RuntimeClosed):
            call()
    with pytest.raises(durable.RuntimeClosed):
        next(runtime.env.COUNTERS.objects())
    assert "closed" in repr(runtime)


def test_closing_lets_calls_end_and_then_gives_them_up(
    tmp_path: Path, loop: tuple[str, dict[str, Any]]
) -> None:
    """After `Limits.shutdown_s_max`; nobody waits for ever."""
    import anyio

    backend, options = loop
    opening = durable.open(
        tmp_path,
        bindings={"COUNTERS": Counter},
        vars={"DOOR": anyio.Event()},
        limits=durable.Limits(shutdown_s_max=0.05),
    )
    errors: list[BaseException] = []
    WAITING.clear()

    def work() -> None:
        try:
            runtime.env.COUNTERS.get_by_name("a").wait()
        except durable.DurableError as error:
            errors.append(error)

    runtime = open_now(opening, backend, **options)
    thread = threading.Thread(target=work)
    thread.start()
    assert WAITING.wait(10)
    runtime.close()
    thread.join(10)

    assert not thread.is_alive()
    assert len(errors) == 1


def test_what_cannot_be_opened_is_told_at_the_call(tmp_path: Path) -> None:
    with durable.blocking.open(tmp_path / "s"):
        with pytest.raises(durable.StoreInUse):
            durable.blocking.open(tmp_path / "s")
    with pytest.raises(TypeError, match="binding"):
        durable.blocking.open(tmp_path / "s", bindings={"A": int})  # type: ignore[dict-item]
    (tmp_path / "durable.toml").write_text('name = "shop"\nmain = "app.py"\npath = "state"\n')
    (tmp_path / "app.py").write_text("")
    with durable.blocking.open_config(tmp_path / "durable.toml") as runtime:
        assert runtime.statistics().live_objects == 0
    with pytest.raises(FileNotFoundError):
        durable.blocking.open_config(tmp_path / "none.toml")


# Programs


def run(program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        **options,
    )


START = """
import os, signal, sys, threading, time
import durable, durable.blocking

class Counter(durable.DurableObject):
    async def increment(self):
        value = await self.ctx.storage.get("value", 0) + 1
        self.ctx.storage.put("value", value)
        return value

    async def late(self):
        self.ctx.wait_until(self.later())

    async def later(self):
        import anyio
        await anyio.sleep(0.2)
        self.ctx.storage.put("late", True)

    async def is_late(self):
        return await self.ctx.storage.get("late", False)

    async def forever(self):
        import anyio
        print("waiting", flush=True)
        await anyio.sleep(1)
        self.ctx.storage.put("went on", True)
        return 1

    async def went_on(self):
        return await self.ctx.storage.get("went on", False)

runtime = durable.blocking.open(sys.argv[1], bindings={"C": Counter})
counter = runtime.env.C.get_by_name("a")
"""


def test_a_store_is_closed_at_the_end_of_the_program(tmp_path: Path) -> None:
    """By itself: what runs ends, what was written is there, and the folder is free."""
    done = run(START + "print(counter.increment()); counter.late()", str(tmp_path / "s"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert (tmp_path / "s" / "owner").read_text() == ""

    with durable.blocking.open(tmp_path / "s", bindings={"C": named("Counter")}) as runtime:
        assert runtime.env.C.get_by_name("a").get("late") is True


def test_a_store_is_closed_at_the_end_after_an_error_too(tmp_path: Path) -> None:
    done = run(START + "print(counter.increment()); raise SystemExit(3)", str(tmp_path / "s"))

    assert (done.returncode, done.stdout, done.stderr) == (3, "1\n", "")
    assert (tmp_path / "s" / "owner").read_text() == ""


def named(name: str) -> type[durable.DurableObject]:
    async def get(self: durable.DurableObject, key: str) -> Any:
        return await self.ctx.storage.get(key)

    return type(name, (durable.DurableObject,), {"get": get})


FORKED = """
pid = os.fork()
if not pid:
    for call in (counter.increment, lambda: runtime.namespace(Counter)):
        try:
            call()
        except durable.blocking.WrongThread as error:
            print(error, flush=True)
    runtime.close()
    sys.exit(0)  # with all that a program does at its end
assert os.waitpid(pid, 0)[1] == 0
print(counter.increment())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_is_told_to_open_its_own(tmp_path: Path) -> None:
    """And its end leaves the parent's store as it is."""
    done = run(START + "counter.increment()\n" + FORKED, str(tmp_path / "s"))

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("forked off" in line and "after the fork" in line for line in lines[:2])
    assert lines[2] == "2"


INTERRUPTED = """
try:
    counter.forever()
except KeyboardInterrupt:
    print("interrupted", counter.increment(), flush=True)
while not counter.went_on():
    time.sleep(0.01)
print("went on")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")
def test_an_interrupt_ends_the_waiting_and_not_the_call(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", START + INTERRUPTED, str(tmp_path / "s")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted 1\n"
        assert process.stdout.readline() == "went on\n"
        assert process.wait(30) == 0


# Frameworks


def test_flask_serves_objects_from_its_threads(tmp_path: Path) -> None:
    flask = pytest.importorskip("flask")
    serving: Callable[..., Any] = pytest.importorskip("werkzeug.serving").make_server
    with durable.blocking.open(tmp_path, bindings={"COUNTERS": Counter}) as runtime:
        app = flask.Flask("counters")

        @app.post("/<name>")  # type: ignore[untyped-decorator]
        def increment(name: str) -> dict[str, int]:
            return {"value": runtime.namespace(Counter).get_by_name(name).increment()}

        assert app.test_client().post("/site").json == {"value": 1}

        import urllib.request

        server = serving("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def visit() -> None:
            for _ in range(5):
                url = f"http://127.0.0.1:{server.server_port}/site"
                with urllib.request.urlopen(urllib.request.Request(url, method="POST")):
                    pass

        visitors = [threading.Thread(target=visit) for _ in range(4)]
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        server.shutdown()
        thread.join()
        server.server_close()
        assert app.test_client().post("/site").json == {"value": 22}
