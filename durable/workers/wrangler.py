"""What a Wrangler file describes beyond classes and variables: assets, crons, services, and
bindings that do not exist here.

Rule: nothing is refused because it does not exist here. It raises when it is used.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from durable import InvalidConfig
from durable._deploy.config import Config, ScriptConfig, Wrangler, read_config

from .assets import Assets

log: logging.Logger = logging.getLogger("durable")

# Bindings that an environment does not inherit: the table, the key of the name, and what it is. A
# single table stands under a key, the others in a list.
_MISSING: dict[str, tuple[str, str]] = {
    "kv_namespaces": ("binding", "a KV namespace"),
    "r2_buckets": ("binding", "an R2 bucket"),
    "d1_databases": ("binding", "a D1 database"),
    "hyperdrive": ("binding", "a Hyperdrive"),
    "vectorize": ("binding", "a Vectorize index"),
    "analytics_engine_datasets": ("binding", "an Analytics Engine dataset"),
    "ai": ("binding", "Workers AI"),
    "browser": ("binding", "Browser Rendering"),
    "images": ("binding", "an Images binding"),
    "media": ("binding", "a Media binding"),
    "stream": ("binding", "a Stream binding"),
    "version_metadata": ("binding", "version metadata"),
    "mtls_certificates": ("binding", "an mTLS certificate"),
    "workflows": ("binding", "a Workflow"),
    "dispatch_namespaces": ("binding", "a dispatch namespace"),
    "pipelines": ("binding", "a Pipeline"),
    "secrets_store_secrets": ("binding", "a secret of the Secrets Store"),
    "vpc_services": ("binding", "a VPC service"),
    "worker_loaders": ("binding", "a Worker loader"),
    "send_email": ("name", "an email binding"),
    "ratelimits": ("name", "a rate limit"),
    "unsafe_hello_world": ("binding", "a test binding"),
}
_BINDING_KEYS = frozenset(_MISSING) | {"services", "queues"}
# Of these a Worker in development sees nothing.
_OF_DEPLOYMENT = frozenset(
    """
    $schema account_id base_dir build compatibility_date compatibility_flags compliance_region dev
    find_additional_modules keep_vars legacy_env limits logpush minify no_bundle observability
    placement preserve_file_names preview_urls python_modules route routes rules send_metrics
    streaming_tail_consumers tail_consumers tsconfig upload_source_maps usage_model workers_dev
    zone_id
    """.split()  # noqa: SIM905 - read as words
)
_INHERITED = frozenset({"assets", "triggers", "exports"}) | _OF_DEPLOYMENT


@frozen
class Service:
    """A binding to another Worker."""

    name: str
    script: str
    entrypoint: str | None


@frozen
class Tables:
    """The tables of one script."""

    assets: Assets | None
    assets_binding: str | None
    crons: tuple[str, ...]
    services: tuple[Service, ...]
    # The bindings that are not available, with the kind of each.
    missing: Mapping[str, str] = field(factory=dict)


def read_wrangler(
    file: str | os.PathLike[str],
    environment: str | None = None,
    beside: Sequence[str | os.PathLike[str]] = (),
) -> Config:
    """The scripts of *file*, and those of the files *beside* it that it refers to."""
    reading = Wrangler(
        keys=_BINDING_KEYS | _INHERITED,
        inherited=_INHERITED,
        beside=tuple(Path(other) for other in beside),
        reaches=lambda script: [service.script for service in _services(script)],
    )
    return read_config(file, environment, reading)


def tables_of(script: ScriptConfig) -> Tables:
    """The tables of *script*. Raises InvalidConfig if one is not what it should be."""
    _warn_of_exports(script)
    assets, binding = _assets(script)
    crons = _table(script, "triggers").get("crons") or []
    if not isinstance(crons, list) or not all(isinstance(cron, str) for cron in crons):
        raise _error(script, "triggers", f"crons must be a list of texts, not {crons!r}")
    return Tables(assets, binding, tuple(crons), tuple(_services(script)), dict(_missing(script)))


def variables_of(script: ScriptConfig) -> dict[str, Any]:
    """The entries of `.dev.vars`, of the environment's own if it has one, and `vars`."""
    folder = script.file.absolute().parent
    names = [".dev.vars"] if script.environment is None else [
        f".dev.vars.{script.environment}", ".dev.vars"
    ]  # fmt: skip
    file = next((folder / name for name in names if (folder / name).is_file()), None)
    secrets = {} if file is None else dict(_dotenv(file.read_text(encoding="utf-8")))
    return {**script.vars, **secrets}


_LINE = re.compile(r"""\s*(?:export\s+)?([\w.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^#\n]*))""")


def _dotenv(text: str) -> Iterator[tuple[str, str]]:
    for line in re.split(r"\n(?=\s*(?:export\s+)?[\w.-]+\s*=)", "\n" + text):
        found = _LINE.match(line)
        if found and not line.lstrip().startswith("#"):
            name, double, single, bare = found.groups()
            if double is not None:
                yield name, double.replace("\\n", "\n")
            else:
                yield name, single if single is not None else bare.strip()


def _assets(script: ScriptConfig) -> tuple[Assets | None, str | None]:
    table = _table(script, "assets")
    folder = table.get("directory")
    if folder is None:
        return None, None
    if not isinstance(folder, str):
        raise _error(script, "assets", f"directory must be a text, not {folder!r}")
    first = table.get("run_worker_first", False)
    return (
        Assets(
            script.file.absolute().parent / folder,
            str(table.get("not_found_handling", "none")),
            str(table.get("html_handling", "auto-trailing-slash")),
            tuple(map(str, first)) if isinstance(first, list) else bool(first),
        ),
        table.get("binding"),
    )


def _services(script: ScriptConfig) -> Iterator[Service]:
    for entry in _entries(script, "services"):
        name, service = entry.get("binding"), entry.get("service")
        if not isinstance(name, str) or not isinstance(service, str):
            raise _error(script, "services", "each has a binding and a service, which are texts")
        if entry.get("environment"):
            service = f"{service}-{entry['environment']}"
        yield Service(name, service, entry.get("entrypoint"))


def _missing(script: ScriptConfig) -> Iterator[tuple[str, str]]:
    for key, (name_key, kind) in _MISSING.items():
        for entry in _entries(script, key):
            if isinstance(entry.get(name_key), str):
                yield entry[name_key], f"{kind}, which is not available here"
    for entry in _table(script, "queues").get("producers") or []:
        if isinstance(entry, dict) and isinstance(entry.get("binding"), str):
            yield entry["binding"], "a queue, which is not available here"


def _warn_of_exports(script: ScriptConfig) -> None:
    """Warn of `exports`, which lists the classes, as the module does too: its former classes are
    ignored."""
    for name, entry in _table(script, "exports").items():
        state = entry.get("state", "created") if isinstance(entry, dict) else None
        if state not in {None, "created"}:
            log.warning(
                "%s, [exports.%s]: what happens to a class that is %s is not done here; the "
                "objects of %s stay as they are. [[migrations]] does it, or a new store",
                script.file, name, state, name,
            )  # fmt: skip


def _table(script: ScriptConfig, key: str) -> Mapping[str, Any]:
    value = script.further.get(key, {})
    if not isinstance(value, dict):
        raise _error(script, key, f"it must be a table, not {value!r}")
    return value


def _entries(script: ScriptConfig, key: str) -> Iterable[Mapping[str, Any]]:
    value = script.further.get(key, [])
    found = [value] if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise _error(script, key, f"it must be a list of tables, not {value!r}")
    return found


def _error(script: ScriptConfig, key: str, what: str) -> InvalidConfig:
    table = None if script.environment is None else f"env.{script.environment}"
    return InvalidConfig(str(script.file), table, key, what)
