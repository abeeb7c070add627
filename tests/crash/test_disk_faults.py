"""P9 and P18 from below: whichever call of the system fails, what is confirmed is stored.

A program runs under a shim that fails its writes, its fsyncs, LMDB's last write of a commit, the
mapping and the opening of its file (`fail_calls.c`), and compares what it has with what was
confirmed to it (`disk_faults_program.py`).

44 faults by default; DURABLE_CRASH_ROUNDS=1000 for more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .power_cut_record import ROOT, build_shim, why_not

ROUNDS = 22 * max(1, int(os.environ.get("DURABLE_CRASH_ROUNDS", "20")) // 20)

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(Path(__file__).with_name("fail_calls.c"), tmp_path_factory.mktemp("shim"))


def run_preloaded(shim: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    preloaded = " ".join(filter(None, [str(shim), os.environ.get("LD_PRELOAD", "")]))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": preloaded},
        capture_output=True,
        text=True,
        timeout=30 + ROUNDS,
        check=False,
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_fails_what_is_confirmed_is_stored_and_nothing_else(
    shim: Path, tmp_path: Path, seed: int
) -> None:
    """The store goes on when the cause has gone, in the same process, and is whole at the end."""
    module = "tests.crash.disk_faults_program"
    done = run_preloaded(shim, "-m", module, str(tmp_path / "store"), str(seed), str(ROUNDS))

    assert done.returncode == 0, done.stderr[-4_000:]
    assert "Traceback" not in done.stderr, done.stderr[-4_000:]
    said = json.loads(done.stdout)
    for kind in ("page", "page part", "sync", "meta", "meta part", "map", "open"):
        assert said["failed"].get(kind), f"nothing of the kind {kind} has failed: {said}"
    assert said["errors"]["CommitFailed"]
    assert said["errors"]["StoreFull"]


ONE_META_PAGE = """
import asyncio, sys
import durable
from durable import operate
from tests.crash.disk_faults_program import Disk, Keeper

async def main(folder):
    disk = Disk(folder + "/data.mdb")
    async with durable.open(folder, bindings={"K": Keeper}) as runtime:
        a, b = (runtime.env.K.get_by_name(name) for name in "ab")
        await a.put({"first": 1})
        await b.put({"first": 1})
        disk.fail("meta", 0, 1, 5, False)
        try:
            await a.put({"second": 2})
        except durable.CommitFailed as error:
            print(error)
        assert disk.repair() == 1
        assert await b.all() == {"first": 1}
        await b.put({"third": 3})
        again = runtime.env.K.get_by_name("a")
        assert await again.all() == {"first": 1}
        await again.put({"third": 3})
    async with durable.open(folder, bindings={"K": Keeper}) as runtime:
        assert await runtime.env.K.get_by_name("a").all() == {"first": 1, "third": 3}
    print(operate.check(folder))

asyncio.run(main(sys.argv[1]))
"""


def test_one_meta_page_that_fails_costs_its_own_commit_only(shim: Path, tmp_path: Path) -> None:
    """Other objects notice nothing, and nobody is told to restore a backup."""
    done = run_preloaded(shim, "-c", ONE_META_PAGE, str(tmp_path / "store"))

    assert done.returncode == 0, done.stderr
    told, problems = done.stdout.splitlines()
    assert "nothing of it was stored" in told
    assert "backup" not in told
    assert problems == "[]"


NOT_OPENED_ANEW = """
import asyncio, errno, sys
import durable
from tests.crash.disk_faults_program import Disk, Keeper

async def main(folder, first):
    disk = Disk(folder + "/data.mdb")
    async with durable.open(folder, bindings={"K": Keeper}) as runtime:
        await runtime.env.K.get_by_name("a").put({"first": 1})
        disk.fail("open", 0, 1_000, errno.EMFILE, True)
        try:
            await runtime.env.K.get_by_name("a").put({"second": 2})
        except durable.CommitFailed:
            pass
        try:
            await runtime.env.K.get_by_name("a").all()
        except durable.CommitFailed as error:
            print("could not be opened anew" in str(error))
        assert disk.repair() >= 2
        stub = runtime.env.K.get_by_name("a")
        if first == "read":
            assert await stub.all() == {"first": 1}
        await stub.put({"third": 3})
        assert await stub.all() == {"first": 1, "third": 3}

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("first", ["read", "write"])
def test_the_first_call_after_the_cause_has_gone_succeeds(
    shim: Path, tmp_path: Path, first: str
) -> None:
    """LMDB gave the file up and could not open it anew: the call that finds it well does."""
    done = run_preloaded(shim, "-c", NOT_OPENED_ANEW, str(tmp_path / "store"), first)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
