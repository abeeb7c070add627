"""The reference names all that is public, and nothing that is not."""

from __future__ import annotations

import importlib
import re

import pytest

import durable
import durable.testing

from .make_reference import DOORS, NOT_FOR_USERS, PAGE, groups, public_members
from .pages import ROOT

HOW = "run `python tests/docs/make_reference.py`"


def sections() -> dict[str, set[str]]:
    """The names of the page by their headings: what is public, and its members."""
    found: dict[str, set[str]] = {}
    current = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"### `([\w.]+)`$", line):
            current = heading[1]
            found[current] = set()
        elif heading := re.match(r"#### `(?:async )?(\w+)", line):
            found[current].add(heading[1])
    return found


def test_every_public_name_is_in_the_reference() -> None:
    """What `__all__` of durable and its other doors lists has a heading, and nothing else has."""
    public = {
        f"{door}.{name}"
        for door in ("durable", *DOORS)
        for name in importlib.import_module(door).__all__
    }

    assert set(sections()) == public, HOW


def test_every_public_member_is_in_the_reference() -> None:
    """The members of each public class have a heading, and nothing else has."""
    written = sections()
    for _, module, names in groups():
        for name in names:
            thing = getattr(module, name)
            members = set(public_members(thing)) if isinstance(thing, type) else set()
            assert written[f"{module.__name__}.{name}"] == members, f"{name}: {HOW}"


def test_every_public_error_is_in_the_guide_of_errors() -> None:
    """With what to do about it."""
    errors = {
        name
        for name in durable.__all__
        if isinstance(value := getattr(durable, name), type) and issubclass(value, BaseException)
    }
    guide = (ROOT / "docs/guides/errors.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (`[^|]*)\|", guide, re.MULTILINE)

    assert {name for row in listed for name in re.findall(r"`(\w+)`", row)} >= errors - {
        "DurableError"
    }


def test_what_is_called_not_for_users_exists() -> None:
    """The exceptions to that name members that there are."""
    for name, members in NOT_FOR_USERS.items():
        cls = getattr(durable, name, None) or getattr(durable.testing, name)
        for member in members:
            assert hasattr(cls, member) or member in cls.__annotations__, f"{name}.{member}"


@pytest.mark.parametrize("number", range(1, 19))
def test_every_promise_has_a_section_and_a_test(number: int) -> None:
    """P1 to P18 each have a section in docs/promises.md, which names tests that exist."""
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    section = re.search(rf"^## P{number} .*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)

    assert section is not None
    assert f"`tests/promises/test_p{number:02}_*.py`" in section[0]
    assert f"def test_p{number}(" in section[0]
    assert list((ROOT / "tests" / "promises").glob(f"test_p{number:02}_*.py"))


def test_links_between_pages_lead_somewhere() -> None:
    """A link to a file of the tree names one that exists, and a heading that it has."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for path in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            name, _, fragment = target.partition("#")
            linked = (path.parent / name).resolve() if name else path
            assert linked.exists(), f"{path.name} links to {target}"
            if fragment:
                headings = re.findall(
                    r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE
                )
                slugs = {re.sub(r"[^\w\- ]", "", h).lower().replace(" ", "-") for h in headings}
                assert fragment in slugs, f"{path.name} links to {target}"


def test_the_architecture_names_files_that_exist() -> None:
    """Each file that ARCHITECTURE.md names is there, and each file of a floor is in its picture."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    package = ROOT / "durable"
    for name in re.findall(r"`(_\w+/\w+\.py)`", text):
        assert (package / name).exists(), f"ARCHITECTURE.md names {name}"
    picture = text.split("```")[1]
    words = set(re.findall(r"\w+", picture))
    missing = [
        path.relative_to(package).as_posix()
        for path in package.glob("_*/*.py")
        if not path.stem.startswith("__") and path.stem not in words
    ]
    assert not missing, f"ARCHITECTURE.md does not show {missing}"
