"""What type checkers say of the library, as they are, with no plugin."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from durable.cli.stub_classes import stub_classes

from .checkers import announced, compare, mypy, pyright, run

CASES = Path(__file__).parent / "cases"


def test_an_attribute_of_a_stub_is_any(tmp_path: Path) -> None:
    """A checker lets every attribute call through, and knows what Stub declares itself."""
    case = tmp_path / "case.py"
    case.write_text(
        "import durable\n"
        "async def main(stub: durable.Stub[durable.DurableObject]) -> None:\n"
        "    reveal_type(await stub.anything('at all'))\n"
        "    reveal_type(await stub.fetch('https://object/'))\n",
        encoding="utf-8",
    )

    assert mypy(case, folder=tmp_path)[case.name] == {
        3: [("note", 'Revealed type is "Any"')],
        4: [("note", 'Revealed type is "Response"')],
    }


def test_mypy_knows_rpc_call_get_and_env(tmp_path: Path) -> None:
    """`stub.rpc`, `stub.call`, `get` with a default, and an `Env` that says what is bound."""
    case = CASES / "no_plugin.py"
    expected = announced(case)

    assert len(expected) > 30
    compare(mypy(case, folder=tmp_path)[case.name], expected)


def test_pyright_says_the_same_as_mypy(tmp_path: Path) -> None:
    """Strict, on the same file, line by line."""
    case = CASES / "no_plugin.py"
    compare(pyright(case, folder=tmp_path)[case.name], announced(case))


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, ...]:
    """A module of objects, its stub classes as `durable types` writes them, and a use of both."""
    for name in ("shop.py", "shop_use.py"):
        (tmp_path / name).write_text((CASES / name).read_text("utf-8"), encoding="utf-8")
    done = run("-m", "durable", "types", "shop", "-o", "shop_stubs.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return tmp_path / "shop_use.py", tmp_path / "shop_stubs.py"


def test_stub_classes_are_right_for_mypy(written: tuple[Path, ...], tmp_path: Path) -> None:
    """Attribute calls are exact, plain methods too, without a plugin."""
    use, stubs = written
    said = mypy(use, stubs, folder=tmp_path)

    compare(said[use.name], announced(use))
    assert said[stubs.name] == {}


def test_stub_classes_are_right_for_pyright(written: tuple[Path, ...], tmp_path: Path) -> None:
    """The same file, and the same lines."""
    use, stubs = written
    said = pyright(use, stubs, folder=tmp_path)

    compare(said[use.name], announced(use))
    assert said[stubs.name] == {}


def test_what_has_no_objects_or_is_no_module_is_said(tmp_path: Path) -> None:
    """In one line, with a status above zero."""
    (tmp_path / "empty.py").write_text("import durable\n", encoding="utf-8")
    for module, words in (("empty", "has no class of objects"), ("missing", "there is no module")):
        done = run("-m", "durable", "types", module, cwd=tmp_path)
        assert done.returncode > 0
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_module_whose_source_is_gone_has_untyped_stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As code that was typed in has none: names are known, arguments are not."""
    module = ModuleType("typed_in")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(
        "import durable\n"
        "class Counter(durable.DurableObject):\n"
        "    async def add(self, by: int): ...\n",
        module.__dict__,
    )
    text = stub_classes(module)

    assert "class CounterStub(durable.Stub[Counter]):" in text
    assert "def add(self, *args: Any, **kwargs: Any) -> Any:" in text


def test_the_typed_program_runs() -> None:
    """What the checkers accept is what happens."""
    code = (
        "import runpy, sys, typing; typing.reveal_type = lambda value: value; "
        "runpy.run_path(sys.argv[1], run_name='__main__')"
    )
    done = run("-c", code, str(CASES / "no_plugin.py"))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
