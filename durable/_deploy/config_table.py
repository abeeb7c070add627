"""A table of a configuration file: its entries by type, and errors that name file, table and key.

Rule: a key is known, or ignored with a warning, or refused if it is nearly a known one, as a typing
error is.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from durable._model.database_url import is_url
from durable._model.errors import InvalidConfig

log = logging.getLogger("durable")

# Keys of Wrangler's that are unknown here, at the top and in environments: none is a typing error.
WRANGLER_KEYS = frozenset(
    """
    $schema account_id ai alias analytics_engine_datasets assets base_dir browser build cache
    cloudchamber compatibility_date compatibility_flags compliance_region containers d1_databases
    data_blobs define dependencies_instrumentation dev dispatch_namespaces exports
    find_additional_modules first_party_worker hyperdrive images jsx_factory jsx_fragment
    keep_names keep_vars kv_namespaces legacy_env limits logfwdr logpush media minify
    mtls_certificates no_bundle observability pages_build_output_dir pipelines placement
    preserve_file_names preview_urls preview queues r2_buckets ratelimits route routes rules
    secrets secrets_store_secrets send_email send_metrics services site streaming_tail_consumers
    tail_consumers text_blobs triggers tsconfig unsafe unsafe_hello_world upload_source_maps
    usage_model vectorize version_metadata vpc_services wasm_modules worker_loaders workers_dev
    workflows zone_id
    """.split()  # noqa: SIM905 - read as words
)

_reported: set[tuple[Path, str, str]] = set()


@frozen
class Table:
    """A table of a file, and its place there."""

    file: Path
    where: str  # "" for the top of the file
    entries: Mapping[str, Any]

    def error(self, key: str | None, what: str) -> InvalidConfig:
        return InvalidConfig(str(self.file), self.where or None, key, what)

    def check_keys(self, known: tuple[str, ...]) -> Table:
        unknown = [key for key in self.entries if key not in known]
        for key in unknown:
            hint = nearest(key, known) if key not in WRANGLER_KEYS else ""
            if hint:
                raise self.error(key, f"there is no such key{hint}")
        unreported = [key for key in unknown if (self.file, self.where, key) not in _reported]
        if unreported:
            _reported.update((self.file, self.where, key) for key in unreported)
            log.warning(
                "%s%s: not known here and passed over: %s",
                self.file,
                f", [{self.where}]" if self.where else "",
                ", ".join(unreported),
            )
        return self

    def only(self, known: tuple[str, ...]) -> Table:
        """The entries that are known."""
        return Table(
            self.file, self.where, {key: self.entries[key] for key in self.entries if key in known}
        )

    def text(self, key: str, *, is_required: bool = False) -> str | None:
        value = self.entries.get(key)
        if value is None:
            if is_required:
                raise self.error(key, "it is missing")
            return None
        if not isinstance(value, str):
            raise self.error(key, f"it must be a text, not {value!r}")
        if not value:
            raise self.error(key, "it must not be empty")
        return value

    def table(self, key: str) -> Table:
        where = f"{self.where}.{key}" if self.where else key
        value = self.entries.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, f"it must be a table, not {value!r}")
        return Table(self.file, where, value)

    def tables(self, key: str) -> list[Table]:
        where = f"{self.where}.{key}" if self.where else key
        value = self.entries.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            raise self.error(key, f"it must be a list of tables, not {value!r}")
        return [Table(self.file, f"{where}[{number}]", entry) for number, entry in enumerate(value)]

    def store(self, key: str) -> Path | str | None:
        """The path of a folder, as it stands, or the URL of a database."""
        text = self.text(key)
        try:
            return text if text is None or is_url(text) else Path(text)
        except ValueError as error:
            raise self.error(key, str(error)) from error

    def texts(self, key: str) -> list[str]:
        value = self.entries.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise self.error(key, f"it must be a list of texts, not {value!r}")
        return value

    def seconds(self, key: str) -> float | None:
        value = self.entries.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise self.error(key, f"it must be a number of seconds from 0 on, not {value!r}")
        return float(value)

    def flag(self, key: str) -> bool | None:
        value = self.entries.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, f"it must be true or false, not {value!r}")
        return value


def nearest(name: str, known: Iterable[str | None]) -> str:
    """A hint for *name*: the one of *known* that was probably meant."""
    close = difflib.get_close_matches(name, [text for text in known if text], 1)
    return f"; did you mean {close[0]!r}?" if close else ""
