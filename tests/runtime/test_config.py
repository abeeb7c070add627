"""The configuration file: what it may say, what follows from it, and what it is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import durable
from durable import InvalidConfig, Migration, MigrationConflict
from durable._deploy.config import Binding, read_config
from durable._engine.catalog import Weight
from durable._runtime.pending import pending_migrations

APP = """
import durable

class Counter(durable.DurableObject):
    async def add(self, by: int = 1) -> int:
        value = await self.ctx.storage.get("value", 0) + by
        self.ctx.storage.put("value", value)
        return value

    async def words(self) -> list[str]:
        return sorted(self.env)

    async def ask(self, binding: str) -> int:
        return await self.env[binding].get_by_name("x").add()

async def fetch(request, env):
    return durable.Response(env.GREETING)
"""

SHOP = """
name = "shop"
main = "app.py"
path = "state"

[durable_objects]
bindings = [{ name = "COUNTERS", class_name = "Counter" }]

[vars]
GREETING = "hello"

[env.staging]
durable_objects.bindings = [{ name = "COUNTERS", class_name = "Counter" }]

[env.bare]

[env.shared]
durable_objects.bindings = [
  { name = "COUNTERS", class_name = "Counter", script_name = "shop" },
  { name = "STAGED", class_name = "Counter", script_name = "shop", environment = "staging" },
]

[[migrations]]
tag = "v1"
new_classes = ["Counter"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a main module and a configuration."""
    write(tmp_path, "app.py", APP)
    write(tmp_path, "durable.toml", SHOP)
    return tmp_path


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Reading


def test_a_file_becomes_values(folder: Path) -> None:
    """Paths are beside the file, and bindings say whose class they mean."""
    script = read_config(folder / "durable.toml").script

    assert script.name == "shop"
    assert script.main == "app.py"
    assert script.path == folder / "state"
    assert script.bindings == (Binding("COUNTERS", "Counter", "shop"),)
    assert script.vars == {"GREETING": "hello"}
    assert script.migrations == (Migration(tag="v1", new_classes=["Counter"]),)


def test_an_environment_is_a_script_of_its_own(folder: Path) -> None:
    """It is called by its name behind that of the file; bindings and variables are its own."""
    staging = read_config(folder / "durable.toml", "staging").script
    bare = read_config(folder / "durable.toml", "bare").script

    assert staging.name == "shop-staging"
    assert staging.bindings == (Binding("COUNTERS", "Counter", "shop-staging"),)
    assert staging.vars == {}
    assert bare.bindings == ()


def test_an_environment_has_the_migrations_of_the_file(folder: Path) -> None:
    """And its main module and folder, unless it names others."""
    top = read_config(folder / "durable.toml").script
    staging = read_config(folder / "durable.toml", "staging").script

    assert staging.migrations == top.migrations
    assert (staging.main, staging.path) == (top.main, top.path)


def test_a_binding_may_name_another_script_and_its_environment(folder: Path) -> None:
    """So an environment can share the objects of another."""
    config = read_config(folder / "durable.toml", "shared")

    assert config.script.bindings == (
        Binding("COUNTERS", "Counter", "shop"),
        Binding("STAGED", "Counter", "shop-staging"),
    )
    assert {other.name for other in config.others} == {"shop", "shop-staging"}


def test_a_file_need_not_name_its_script(tmp_path: Path) -> None:
    """Then its classes belong to none, like those of durable.open()."""
    file = write(
        tmp_path,
        "durable.toml",
        'durable_objects.bindings = [{ name = "A", class_name = "Counter" }]',
    )

    assert read_config(file).script.bindings == (Binding("A", "Counter", None),)


WRONG: list[tuple[str, str, str | None, str | None, str]] = [
    ("no TOML", "a = ", None, None, "TOML"),
    ("an unknown key", "nmae = 'x'", None, "nmae", "'name'"),
    ("an unknown key of an environment", "name='x'\n[env.a]\nvarz = {}", "env.a", "varz", "'vars'"),
    ("a wrong type", "name = 1", None, "name", "text"),
    ("a name that cannot be", "name = 'a b'", None, "name", "letters"),
    ("an empty text", "main = ''", None, "main", "empty"),
    ("a table that is none", "vars = 1", None, "vars", "table"),
    (
        "bindings that are none",
        "durable_objects.bindings = 1",
        "durable_objects",
        "bindings",
        "list",
    ),
    (
        "an unknown key beside the bindings",
        "durable_objects.binding = []",
        "durable_objects",
        "binding",
        "'bindings'",
    ),
    (
        "an unknown key of a binding",
        "durable_objects.bindings = [{ name = 'A', class_name = 'B', script = 'c' }]",
        "durable_objects.bindings[0]",
        "script",
        "'script_name'",
    ),
    (
        "a binding without a class",
        "durable_objects.bindings = [{ name = 'A', class_name = 'B' }, { name = 'C' }]",
        "durable_objects.bindings[1]",
        "class_name",
        "missing",
    ),
    (
        "a name that no variable can have",
        "durable_objects.bindings = [{ name = 'a-b', class_name = 'B' }]",
        "durable_objects.bindings[0]",
        "name",
        "identifier",
    ),
    (
        "two bindings of one name",
        "durable_objects.bindings = [{ name = 'A', class_name = 'B' }, "
        "{ name = 'A', class_name = 'C' }]",
        "durable_objects.bindings[1]",
        "name",
        "another",
    ),
    (
        "a binding and a variable of one name",
        "vars.A = 1\ndurable_objects.bindings = [{ name = 'A', class_name = 'B' }]",
        "vars",
        "A",
        "binding",
    ),
    (
        "an environment of a script that is not named",
        "durable_objects.bindings = [{ name = 'A', class_name = 'B', environment = 'c' }]",
        "durable_objects.bindings[0]",
        "environment",
        "script_name",
    ),
    (
        "a script that is not at hand",
        "name = 'shop'\n"
        "durable_objects.bindings = [{ name = 'A', class_name = 'B', script_name = 'shoop' }]",
        "durable_objects",
        "bindings",
        "'shop'",
    ),
    ("environments without a name", "[env.a]", None, "name", "missing"),
    (
        "migrations of an environment",
        "name = 'a'\n[[env.b.migrations]]\ntag = 'v1'",
        "env.b",
        "migrations",
        "top of the file",
    ),
    ("a name of an environment", "name = 'a'\nenv.b.name = 'c'", "env.b", "name", "called"),
    ("an unknown key of an environment", "name = 'a'\nenv.b.var = 1", "env.b", "var", "'vars'"),
    ("a migration without a tag", "[[migrations]]", "migrations[0]", "tag", "missing"),
    (
        "an unknown key of a migration",
        "[[migrations]]\ntag = 'v1'\nnew_class = []",
        "migrations[0]",
        "new_class",
        "'new_classes'",
    ),
    (
        "an unknown key of a rename",
        "[[migrations]]\ntag = 'v1'\nrenamed_classes = [{ form = 'A', to = 'B' }]",
        "migrations[0].renamed_classes[0]",
        "form",
        "'from'",
    ),
    (
        "a rename to nothing",
        "[[migrations]]\ntag = 'v1'\nrenamed_classes = [{ from = 'A' }]",
        "migrations[0].renamed_classes[0]",
        "to",
        "missing",
    ),
    (
        "classes that are none",
        "[[migrations]]\ntag = 'v1'\ndeleted_classes = 'A'",
        "migrations[0]",
        "deleted_classes",
        "list",
    ),
    (
        "a class deleted twice",
        "[[migrations]]\ntag = 'v1'\ndeleted_classes = ['A', 'A']",
        "migrations[0]",
        "deleted_classes",
        "once",
    ),
    ("a script file that is not there", "scripts = ['other.toml']", None, "scripts", "other.toml"),
]


@pytest.mark.parametrize(
    ("text", "table", "key", "says"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
def test_a_mistake_is_answered_with_its_file_table_and_key(
    tmp_path: Path, text: str, table: str | None, key: str | None, says: str
) -> None:
    """And with what to do, such as the nearest known name."""
    file = write(tmp_path, "durable.toml", text)

    with pytest.raises(InvalidConfig) as caught:
        read_config(file)

    assert (caught.value.file, caught.value.table, caught.value.key) == (str(file), table, key)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert says in message
    assert key is None or key in message
    assert table is None or f"[{table}]" in message


WRANGLER = """
{
    // A comment, and /* what looks like one in a "string" */
    "$schema": "node_modules/wrangler/config-schema.json",
    "name": "shop",
    "main": "shop.py",
    "compatibility_date": "2026-01-01",
    "compatibility_flags": ["python_workers"],
    "observability": { "enabled": true, },
    "routes": [{ "pattern": "shop.example/*" }],
    "vars": { "HOME": "https://shop.example/ // , }", "LIST": [1, 2,], },
    "durable_objects": { "bindings": [{ "name": "ROOMS", "class_name": "Room" }] },
    /* in front of the end, */
    "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }], // the last one
    "env": { "staging": { "workers_dev": true } },
}
"""


def test_a_file_of_wrangler_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With comments and trailing commas; what is not ours is told once and passed over."""
    file = write(tmp_path, "wrangler.jsonc", WRANGLER)
    config = read_config(file).script
    read_config(file)

    assert config.vars == {"HOME": "https://shop.example/ // , }", "LIST": [1, 2]}
    assert [binding.name for binding in config.bindings] == ["ROOMS"]
    assert config.migrations[0].created_classes == ("Room",)
    top, staging = (record.getMessage() for record in caplog.records)
    assert "$schema, compatibility_date, compatibility_flags, observability, routes" in top
    assert "[env.staging]" in staging
    assert "workers_dev" in staging


def test_keys_that_nobody_knows_are_told_and_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer Wrangler may have them, in each of the tables."""
    file = write(
        tmp_path,
        "wrangler.toml",
        "zzzzzz = 1\n[durable_objects]\nzzzzzz = 1\n"
        "bindings = [{name = 'A', class_name = 'A', zzzzzz = 1}]\n"
        "[[migrations]]\ntag = 'v1'\nnew_classes = ['A']\nzzzzzz = 1\n",
    )
    config = read_config(file).script

    assert config.bindings[0].class_name == "A"
    assert config.migrations[0].new_classes == ("A",)
    assert len([record for record in caplog.records if "zzzzzz" in record.getMessage()]) == 4


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"name": 1 /* }', "{'name': 'x'}", "1", '{"a": 1,,}', "", "[" * 100_000]
)
def test_what_is_no_json_is_said_with_its_file(tmp_path: Path, text: str) -> None:
    """And where in it, as far as that can be known."""
    file = write(tmp_path, "wrangler.jsonc", text)

    with pytest.raises(InvalidConfig) as caught:
        read_config(file)
    assert caught.value.file == str(file)


def test_an_unknown_environment_is_refused_with_the_nearest(folder: Path) -> None:
    """A typing mistake must not open a third store."""
    with pytest.raises(InvalidConfig, match="did you mean 'staging'"):
        read_config(folder / "durable.toml", "stagign")


def test_a_missing_file_is_an_error_of_the_system(tmp_path: Path) -> None:
    """As with every file."""
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "none.toml")


# Opening


async def test_a_file_opens_its_store(folder: Path) -> None:
    """With its bindings, its variables and its main module."""
    opening = durable.open_config(folder / "durable.toml")
    async with opening as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").add() == 1
        assert runtime.env.GREETING == "hello"
        assert opening.fetch is not None
        response = await opening.fetch(None, runtime.env)
        assert await response.text() == "hello"
    assert (folder / "state").is_dir()


async def test_the_folder_can_be_given(folder: Path, tmp_path: Path) -> None:
    """In place of the file's."""
    async with durable.open_config(folder / "durable.toml", path=tmp_path / "else"):
        pass

    assert (tmp_path / "else").is_dir()
    assert not (folder / "state").exists()


def test_a_file_without_a_folder_needs_one(folder: Path) -> None:
    """Nobody guesses where data goes."""
    write(folder, "durable.toml", "main = 'app.py'")

    with pytest.raises(InvalidConfig, match="path"):
        durable.open_config(folder / "durable.toml")


async def test_environments_have_different_objects(folder: Path) -> None:
    """In one store, until a binding names another's script."""
    for environment, expected in ((None, 1), ("staging", 1), (None, 2), ("shared", 3)):
        async with durable.open_config(folder / "durable.toml", environment=environment) as runtime:
            assert await runtime.env.COUNTERS.get_by_name("a").add() == expected
    async with durable.open_config(folder / "durable.toml", environment="shared") as runtime:
        assert await runtime.env.STAGED.get_by_name("a").add() == 2


async def test_the_main_module_can_be_named_as_a_module(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies beside the file can be imported, and the path of imports stays as it was."""
    name = f"main_of_{folder.name}"
    write(folder, f"{name}.py", APP)
    write(folder, "durable.toml", SHOP.replace("app.py", name))
    before = list(sys.path)
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, name)

    async with durable.open_config(folder / "durable.toml") as runtime:
        assert await runtime.env.COUNTERS.get_by_name("a").add() == 1
    assert sys.path == before


def test_the_main_module_must_be_there(folder: Path) -> None:
    """A file, or a module."""
    for main in ("none.py", "no_module_of_this_name"):
        write(folder, "durable.toml", f"main = '{main}'\npath = 's'")
        with pytest.raises(InvalidConfig, match=main):
            durable.open_config(folder / "durable.toml")


def test_an_error_of_the_main_module_passes_unchanged(folder: Path) -> None:
    """It is not about the configuration."""
    write(folder, "broken.py", "import no_module_of_this_name")
    write(folder, "durable.toml", "main = 'broken.py'\npath = 's'")

    with pytest.raises(ModuleNotFoundError, match="no_module_of_this_name"):
        durable.open_config(folder / "durable.toml")


async def test_a_binding_to_a_class_that_the_module_lacks_is_refused(folder: Path) -> None:
    """With file, table and the nearest name."""
    write(
        folder,
        "durable.toml",
        "main = 'app.py'\npath = 's'\n"
        "durable_objects.bindings = [{ name = 'A', class_name = 'Countr' }]",
    )

    with pytest.raises(InvalidConfig, match="did you mean 'Counter'") as caught:
        async with durable.open_config(folder / "durable.toml"):
            pass
    assert caught.value.table == "durable_objects"


async def test_a_history_of_a_class_that_the_module_lacks_is_refused(folder: Path) -> None:
    """A slip in its name would leave the class without one. An environment that has a main module
    of its own passes over what the file says of other classes."""
    write(folder, "bare.py", "")
    write(
        folder,
        "durable.toml",
        "name = 'shop'\nmain = 'app.py'\npath = 's'\nhistory.Countr = 30\n"
        "[env.own]\nmain = 'bare.py'\n[env.same]\n[env.said]\nhistory.Other = 1",
    )

    for environment, table, match in (
        (None, "history", "did you mean 'Counter'"),
        ("same", "history", "did you mean 'Counter'"),
        ("said", "env.said.history", "it has: Counter"),
    ):
        with pytest.raises(InvalidConfig, match=match) as caught:
            async with durable.open_config(folder / "durable.toml", environment=environment):
                pass
        assert caught.value.table == table
    async with durable.open_config(folder / "durable.toml", environment="own"):
        pass


# Several scripts

DESK = """
name = "desk"
main = "desk.py"
path = "state"
scripts = ["durable.toml"]
vars.ROOM = 7

[durable_objects]
bindings = [
  { name = "OWN", class_name = "Counter" },
  { name = "SHOPS", class_name = "Counter", script_name = "shop" },
]
"""


async def test_two_scripts_share_a_store_and_their_objects(folder: Path) -> None:
    """A class of another script is bound when that script's file is listed."""
    write(folder, "desk.py", APP)
    write(folder, "desk.toml", DESK)
    async with durable.open_config(folder / "durable.toml") as runtime:
        await runtime.env.COUNTERS.get_by_name("x").add()

    async with durable.open_config(folder / "desk.toml") as runtime:
        assert await runtime.env.SHOPS.get_by_name("x").add() == 2
        assert await runtime.env.OWN.get_by_name("x").add() == 1
        assert await runtime.env.OWN.get_by_name("a").ask("SHOPS") == 3


async def test_objects_have_the_env_of_their_own_script(folder: Path) -> None:
    """Whoever opened the store."""
    write(folder, "desk.py", APP)
    write(folder, "desk.toml", DESK)

    async with durable.open_config(folder / "desk.toml") as runtime:
        assert await runtime.env.OWN.get_by_name("a").words() == ["OWN", "ROOM", "SHOPS"]
        assert await runtime.env.SHOPS.get_by_name("a").words() == ["COUNTERS", "GREETING"]


async def test_bindings_of_other_scripts_follow_a_rename(folder: Path) -> None:
    """The other script's file still says the old name, and reaches the same objects."""
    write(folder, "desk.py", APP)
    write(folder, "desk.toml", DESK)
    async with durable.open_config(folder / "desk.toml") as runtime:
        await runtime.env.SHOPS.get_by_name("x").add()
    write(folder, "renamed.py", APP.replace("Counter", "Tally"))
    renamed = SHOP.replace('"Counter" }', '"Tally" }').replace("app.py", "renamed.py")
    renamed = renamed.replace('"Counter", script', '"Tally", script')
    write(
        folder,
        "durable.toml",
        renamed
        + """
[[migrations]]
tag = "v2"
renamed_classes = [{ from = "Counter", to = "Tally" }]
""",
    )

    async with durable.open_config(folder / "desk.toml") as runtime:
        assert await runtime.env.SHOPS.get_by_name("x").add() == 2


async def test_scripts_may_list_each_other(folder: Path) -> None:
    """Each opens the store for both."""
    write(folder, "desk.py", APP)
    write(folder, "desk.toml", DESK)
    text = SHOP.replace('path = "state"', 'path = "state"\nscripts = ["desk.toml"]').replace(
        'bindings = [{ name = "COUNTERS", class_name = "Counter" }]\n\n[vars]',
        'bindings = [{ name = "DESK", class_name = "Counter", script_name = "desk" }]\n\n[vars]',
    )
    write(folder, "durable.toml", text)

    async with durable.open_config(folder / "durable.toml") as runtime:
        assert await runtime.env.DESK.get_by_name("a").ask("SHOPS") == 1
    async with durable.open_config(folder / "desk.toml") as runtime:
        assert await runtime.env.OWN.get_by_name("a").ask("SHOPS") == 2


async def test_a_class_of_a_listed_script_can_be_transferred(folder: Path) -> None:
    """The migrations of the scripts that are reached come before one's own."""
    write(folder, "desk.py", APP.replace("Counter", "Tally"))
    async with durable.open_config(folder / "durable.toml") as runtime:
        await runtime.env.COUNTERS.get_by_name("x").add()
    write(
        folder,
        "desk.toml",
        """
name = "desk"
main = "desk.py"
path = "state"
durable_objects.bindings = [{ name = "OWN", class_name = "Tally" }]

[[migrations]]
tag = "a"
transferred_classes = [{ from = "Counter", from_script = "shop", to = "Tally" }]
""",
    )

    async with durable.open_config(folder / "desk.toml") as runtime:
        assert await runtime.env.OWN.get_by_name("x").add() == 2
    with pytest.raises(MigrationConflict, match="Tally of script 'desk'"):
        async with durable.open_config(folder / "durable.toml"):
            pass


# By hand


async def test_pending_migrations_say_what_would_be_done_and_do_it(folder: Path) -> None:
    """Nothing is changed by looking."""
    file = folder / "durable.toml"
    assert pending_migrations(file).words() == ["v1: create class Counter"]
    assert not (folder / "state").exists()
    async with durable.open_config(file) as runtime:
        await runtime.env.COUNTERS.get_by_name("x").add()
    assert pending_migrations(file).is_empty
    write(
        folder,
        "durable.toml",
        "name = 'shop'\nmain = 'app.py'\npath = 'state'\n"
        "[[migrations]]\ntag = 'v1'\nnew_classes = ['Counter']\n"
        "[[migrations]]\ntag = 'v2'\ndeleted_classes = ['Counter']\n",
    )

    pending = pending_migrations(file, old_tag="v1")
    assert pending.deletes
    assert pending.words() == [
        "v2: delete class Counter and all of its objects (1 object, 0 alarms, 7 bytes)"
    ]
    assert pending.deleted() == [f"Counter of script 'shop': {Weight(1, 0, 7)}"]
    freed: list[int] = []
    pending.apply(freed.append)

    assert freed[-1] == 2  # the object and its record
    assert pending_migrations(file).is_empty
    with pytest.raises(MigrationConflict, match="look again"):
        pending.apply()


async def test_an_old_tag_that_is_not_the_last_is_refused(folder: Path) -> None:
    """Somebody else was here in between."""
    file = folder / "durable.toml"
    with pytest.raises(MigrationConflict, match="v0"):
        pending_migrations(file, old_tag="v0")
    async with durable.open_config(file):
        pass

    assert pending_migrations(file, old_tag="v1").is_empty
    with pytest.raises(MigrationConflict, match="'v1'"):
        pending_migrations(file, old_tag="")


def test_config_values_never_change(folder: Path) -> None:
    """They are frozen."""
    script: Any = read_config(folder / "durable.toml").script

    with pytest.raises(AttributeError):
        script.name = "other"
