"""What type checkers say of the library: its stubs with the mypy plugin, its public names without.

A case is a file whose lines end in `# E: text` where an error with that text must be, or in
`# N: "type"` where `reveal_type` must show that type; no line may have an error that it does not
announce.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).parent / "cases"
ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
[mypy]
strict = True
{plugins}
"""

Reports = dict[int, list[tuple[str, str]]]


def run_mypy(case: Path, folder: Path, *, plugins: str) -> Reports:
    """Check *case* in a process of its own; by line, whether error or note, and the text."""
    config = folder / "mypy.ini"
    config.write_text(CONFIG.format(plugins=plugins), encoding="utf-8")
    options = ["--config-file", str(config), "--cache-dir", str(folder / "cache")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--follow-imports=silent", str(case)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found: Reports = {}
    for line in done.stdout.splitlines():
        if match := re.match(r".*?\.py:(\d+): (error|note): (.*)", line):
            found.setdefault(int(match[1]), []).append((match[2], _short(match[3])))
    assert found, done.stdout + done.stderr
    return found


def _short(text: str) -> str:
    """Types by their last name, as a reader would say them."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text) if "Revealed" in text else text


def announced(case: Path) -> dict[int, tuple[str, str]]:
    found = {}
    for number, line in enumerate(case.read_text(encoding="utf-8").splitlines(), 1):
        if match := re.search(r"  # ([EN]): (.*)$", line):
            found[number] = ("error" if match[1] == "E" else "note", match[2])
    return found


def test_a_stub_has_the_methods_of_its_class(tmp_path: Path) -> None:
    """With the plugin mypy knows a stub's methods, checks their arguments and refuses others."""
    case = CASES / "stubs.py"
    said = run_mypy(case, tmp_path, plugins="plugins = durable.mypy_plugin")
    expected = announced(case)

    assert len(expected) > 30
    for number, (kind, text) in expected.items():
        assert any(
            kind == said_kind and text in said_text for said_kind, said_text in said.get(number, ())
        ), f"line {number} should have the {kind} {text!r}, and has {said.get(number)}"
    for number, reports in said.items():
        for kind, text in reports:
            assert kind == "note" or expected.get(number, ("", ""))[0] == "error", (
                f"line {number} has an error that it does not announce: {text}"
            )


def test_without_the_plugin_a_method_of_a_stub_is_any(tmp_path: Path) -> None:
    """A checker without the plugin lets every call through, and knows what Stub declares itself."""
    case = tmp_path / "case.py"
    case.write_text(
        "import durable\n"
        "async def main(stub: durable.Stub[durable.DurableObject]) -> None:\n"
        "    reveal_type(await stub.anything('at all'))\n"
        "    reveal_type(await stub.fetch('https://object/'))\n",
        encoding="utf-8",
    )
    said = run_mypy(case, tmp_path, plugins="")

    assert said == {
        3: [("note", 'Revealed type is "Any"')],
        4: [("note", 'Revealed type is "Response"')],
    }
