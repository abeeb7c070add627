"""mypy and pyright as the tests run them: on files, each in a process of its own.

A case is a file whose lines end in `# E` where an error must be, with `# E: text` one that has that
text in mypy, or in `# N: "type"` where `reveal_type` must show that type; no line may have an error
that it does not announce.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Reports = dict[int, list[tuple[str, str]]]  # by line: whether error or note, and the text


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )


def mypy(*files: Path, folder: Path) -> dict[str, Reports]:
    """What mypy says of *files* when it is strict, by their names."""
    config = folder / "mypy.ini"
    config.write_text(
        f"[mypy]\nstrict = True\nmypy_path = {ROOT}:{folder}\nexplicit_package_bases = True\n",
        encoding="utf-8",
    )
    done = run(
        "-m", "mypy", "--config-file", str(config), "--cache-dir", str(folder / "cache"),
        "--follow-imports=silent", *map(str, files),
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found: dict[str, Reports] = {file.name: {} for file in files}
    for line in done.stdout.splitlines():
        if match := re.match(r"(.*?\.py):(\d+): (error|note): (.*)", line):
            reports = found.setdefault(Path(match[1]).name, {})
            reports.setdefault(int(match[2]), []).append((match[3], _short(match[4])))
    return found


@lru_cache
def has_pyright() -> bool:
    """Whether pyright runs here: it needs node, which it fetches where there is none."""
    return run("-m", "pyright", "--version").stdout.startswith("pyright")


def pyright(*files: Path, folder: Path) -> dict[str, Reports]:
    """What pyright says of *files* when it is strict; the test is left out where it cannot run."""
    if not has_pyright():
        pytest.skip("pyright found no node")
    config = folder / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": [os.path.relpath(file, folder) for file in files],
                "typeCheckingMode": "strict",
                "extraPaths": [str(ROOT), str(folder)],
                "pythonVersion": "3.11",
            }
        ),
        encoding="utf-8",
    )
    done = run(
        "-m", "pyright", "-p", str(config), "--pythonpath", sys.executable, "--outputjson"
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["summary"]["filesAnalyzed"] == len(files), done.stdout + done.stderr
    found: dict[str, Reports] = {file.name: {} for file in files}
    for each in said["generalDiagnostics"]:
        kind = "error" if each["severity"] == "error" else "note"
        reports = found[Path(each["file"]).name]
        text = re.sub(r'^Type of ".*" is ("[^"]*")$', r"Revealed type is \1", each["message"])
        reports.setdefault(each["range"]["start"]["line"] + 1, []).append((kind, text))
    return found


def _short(text: str) -> str:
    """Types by their last name, as a reader would say them."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text) if "Revealed" in text else text


def announced(case: Path) -> dict[int, tuple[str, str]]:
    """By line: whether error or note, and what its text has."""
    found = {}
    for number, line in enumerate(case.read_text(encoding="utf-8").splitlines(), 1):
        if match := re.search(r"  # ([EN])(?:: (.*))?$", line):
            found[number] = ("error" if match[1] == "E" else "note", match[2] or "")
    return found


def compare(said: Reports, expected: dict[int, tuple[str, str]]) -> None:
    """Fail where a checker says other than was announced."""
    for number, (kind, text) in expected.items():
        assert any(
            kind == said_kind and text in said_text for said_kind, said_text in said.get(number, ())
        ), f"line {number} should have the {kind} {text!r}, and has {said.get(number)}"
    for number, reports in said.items():
        for kind, text in reports:
            assert kind == "note" or expected.get(number, ("", ""))[0] == "error", (
                f"line {number} has an error that it does not announce: {text}"
            )


def errors(said: dict[str, Reports]) -> list[str]:
    return [
        f"{name}:{line}: {text}"
        for name, reports in said.items()
        for line, found in reports.items()
        for kind, text in found
        if kind == "error"
    ]
