"""Prepares what a configuration file describes: the folder, and the scripts with their classes."""

from __future__ import annotations

import os

from durable._model.errors import InvalidConfig

from .config import Config, ScriptConfig
from .histories_table import check_classes
from .modules import Main, load_main
from .programs import Program


def store_folder(config: Config, path: str | os.PathLike[str] | None) -> str:
    """The folder of the store: *path*, or else the file's."""
    if path is not None:
        return os.fspath(path)
    script = config.script
    if script.path is None:
        raise InvalidConfig(
            str(script.file), None, "path", "it is missing; say in which folder the store is"
        )
    return os.fspath(script.path)


def load_programs(config: Config) -> tuple[list[Program], Main]:
    """The scripts of *config* with their classes, and the main module of the one that is opened."""
    programs = [_configured(script, load_main(script)) for script in config.others]
    main = load_main(config.script)
    return [*programs, _configured(config.script, main)], main


def _configured(script: ScriptConfig, main: Main) -> Program:
    if script.history_table is not None:
        check_classes(script.file, script.history_table, script.histories, main.classes)
    return Program(
        script=script.name,
        classes=main.classes,
        bindings={binding.name: binding.naming for binding in script.bindings},
        vars=script.vars,
        migrations=script.migrations,
        is_complete=True,
        file=str(script.file),
        table=script.bindings_table,
        histories=script.histories_us,
    )
