"""What a Worker's code imports is there while it runs, and what was there before is afterwards."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import durable.workers
from durable.workers import installed, open_worker

from .conftest import Run, write

pytestmark = pytest.mark.backends("asyncio")

PLAIN = 'name = "it"\nmain = "worker.py"\n'


def provided() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] in {"workers", "js", "pyodide"}}


async def test_nothing_is_left_behind(run: Run) -> None:
    """No module, no folder to import from, and the Worker's own code is imported anew."""
    before, path = set(sys.modules), list(sys.path)
    async with run("N = 1\n", PLAIN) as o:
        assert "workers" in sys.modules
        assert sys.modules["worker"] is o.worker.code.main
    assert provided() == set()
    assert "worker" not in set(sys.modules) - before
    assert sys.path == path


async def test_a_worker_that_cannot_be_loaded_leaves_nothing_behind(tmp_path: Path) -> None:
    """What its module raises passes unchanged."""
    file = write(tmp_path, "import worker_part\nraise ZeroDivisionError('at import')\n", PLAIN)
    (tmp_path / "worker_part.py").write_text("")
    path = list(sys.path)
    with pytest.raises(ZeroDivisionError, match="at import"):
        async with open_worker(file):
            pass
    assert provided() == set()
    assert not {"worker", "worker_part"} & set(sys.modules)
    assert sys.path == path
    async with open_worker(write(tmp_path, "", PLAIN)):
        pass


async def test_modules_that_were_there_are_there_again(run: Run) -> None:
    """A program's own module of one of the names, whichever is at hand first."""
    mine = sys.modules["js"] = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("js", None)  # type: ignore[arg-type]
    )
    try:
        with installed():
            assert sys.modules["js"] is not mine
            async with run("import js\nfrom js import Date\nNOW = Date.now()\n", PLAIN):
                pass
            assert sys.modules["js"] is not mine
        assert sys.modules["js"] is mine
    finally:
        del sys.modules["js"]


async def test_an_installed_package_is_set_aside_with_a_word(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As is Cloudflare's own, which projects have for their editors."""
    package = tmp_path / "installed" / "workers"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("THEIRS = True\n")
    monkeypatch.syspath_prepend(package.parent)
    importlib.invalidate_caches()
    async with run("from workers import Response\n", PLAIN):
        pass
    assert f"the installed package workers ({package / '__init__.py'}) is set aside" in caplog.text
    assert importlib.import_module("workers").THEIRS
    del sys.modules["workers"]


def test_the_library_imports_nothing_of_it() -> None:
    """Neither does any command but `dev`."""
    code = (
        "import sys, durable, durable.asgi, durable.cli.commands\n"
        "assert not [name for name in sys.modules if 'durable.workers' in name]\n"
        "assert not {'workers', 'js', 'pyodide'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_modules_of_a_worker_are_tested_by_themselves(tmp_path: Path) -> None:
    """Within `installed()` they are imported as any others."""
    (tmp_path / "greeting_of_worker.py").write_text(
        "from workers import Response\nimport pyodide\nfrom pyodide.ffi import to_js\n"
        "def greet(): return Response('hello', status=201)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with installed():
            greeting = importlib.import_module("greeting_of_worker")
            assert repr(greeting.greet()).startswith("Response(status=201")
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["greeting_of_worker"]


def test_submodules_of_the_sdk_are_found() -> None:
    with installed():
        for line in (
            "from workers.entrypoints import DurableObjectContext, DurableObject",
            "from workers.rpc import python_from_rpc, python_to_rpc, JsDict",
            "from workers.utils import import_from_javascript",
            "from workers.types import Headers",
            "from workers import fetch, handler, WorkflowEntrypoint, FetchResponse, File",
            "from pyodide.http import pyfetch",
            "from pyodide import ffi, http",
            "from js import HTMLRewriter, caches",
            "import workers.blob, workers.fetch",
        ):
            exec(line, {})
        for line in ("from workers import Nothing", "from js import nothing", "import js.nothing"):
            with pytest.raises(ImportError):
                exec(line, {})


async def test_the_main_module_is_found_by_its_name(tmp_path: Path) -> None:
    """Modules beside it import it as `worker`, and get the same one; `.venv` is not its code."""
    (tmp_path / "part_of_worker.py").write_text("import worker\ndef main(): return worker\n")
    file = write(tmp_path, "import part_of_worker\nCOUNT = []\nCOUNT.append(1)\n", PLAIN)
    opener = open_worker(file)
    async with opener:
        main = opener.worker.code.main
        assert main.part_of_worker.main() is main
        assert main.COUNT == [1]
        assert set(opener.worker.code.modules) == {"worker", "part_of_worker"}


async def test_two_workers_have_modules_of_the_same_names(tmp_path: Path) -> None:
    """Each gets its own, whatever the other is called."""
    files = []
    for name in ("one", "two"):
        config = f'name = "{name}"\nmain = "worker.py"\n' + (
            'services = [{ binding = "OTHER", service = "two" }]\n' if name == "one" else ""
        )
        code = "from shared_name import NAME\nfrom workers import Response, WorkerEntrypoint\n"
        code += "class Default(WorkerEntrypoint):\n    def name(self):\n        return NAME\n"
        files.append(write(tmp_path / name, code, config))
        (tmp_path / name / "shared_name.py").write_text(f"NAME = {name!r}\n")
    opener = open_worker(files[0], beside=files[1:])
    async with opener as runtime:
        assert await opener.worker.call(None, "name", []) == "one"
        assert await runtime.env.OTHER.name() == "two"
    assert "shared_name" not in sys.modules
    assert durable.workers.__all__
