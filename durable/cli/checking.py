"""`durable check`: whether a store is intact. It needs no extras, so that it runs anywhere."""

from __future__ import annotations

import argparse
import sys

from durable import operate
from durable.operate.databases import check_databases
from durable.operate.json_lines import json_line

from .plain_text import say


def check(folder: str, *, other_codec: bool, is_json: bool, with_sql: bool = False) -> int:
    """Read all of the store and print its problems; returns 1 if there are any. *with_sql*: by
    SQLite's own check of each object's database too."""
    problems = operate.check(folder, values=not other_codec)
    if with_sql and not problems:
        problems = check_databases(folder)
    for problem in problems:
        if is_json:
            sys.stdout.write(json_line({"where": problem.where, "what": problem.what}))
        else:
            say(str(problem))
    if not problems and not is_json:
        say("nothing is wrong")
    return 1 if problems else 0


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="check that a store is intact",
        description="Reads all of the store in FOLDER and reports every problem.",
    )
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument(
        "--other-codec",
        action="store_true",
        help="do not decode values: the store has a custom codec",
    )
    parser.add_argument(
        "--sql", action="store_true", help="run SQLite's integrity check of each object's database"
    )
    parser.add_argument("--json", action="store_true", help="print lines of JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    return check(
        arguments.folder,
        other_codec=arguments.other_codec,
        is_json=arguments.json,
        with_sql=arguments.sql,
    )
