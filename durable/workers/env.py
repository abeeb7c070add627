"""`env` of a Worker: its bindings and variables, in the shapes that Cloudflare's Python gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import singledispatch
from typing import Any, NoReturn

import durable

from .errors import NotHere
from .js_collections import JsArray, JsObject
from .namespaces import DurableObjectNamespace
from .scope import scope_of


@singledispatch
def bound(value: Any) -> Any:
    """The value of `env.NAME` for what the name is bound to."""
    return value


@bound.register
def _namespace(value: durable.Namespace) -> DurableObjectNamespace:  # type: ignore[type-arg]
    return DurableObjectNamespace(value)


@bound.register
def _table(value: dict) -> JsObject:  # type: ignore[type-arg]
    return JsObject({key: bound(item) for key, item in value.items()})


@bound.register
def _list(value: list) -> JsArray:  # type: ignore[type-arg]
    return JsArray(bound(item) for item in value)


class EnvWrapper:
    """Bindings and variables, by attribute."""

    def __new__(cls, env: Any) -> EnvWrapper:
        """Returns *env* itself if it is wrapped already."""
        return env if isinstance(env, EnvWrapper) else super().__new__(cls)

    def __init__(self, env: Any) -> None:
        if env is not self:
            self._env: Any = env

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if isinstance(self._env, Variables | durable.Env) and name not in self._env:
            known = ", ".join(self._env) or "nothing"
            raise AttributeError(
                f"env has no {name!r}; the configuration binds: {known}. Add it to vars, to "
                f"durable_objects or to .dev.vars"
            )
        value = bound(getattr(self._env, name))
        self.__dict__[name] = value
        return value


class Variables(Mapping[str, Any]):
    """The `env` of a Worker's module while it is imported: all bindings but the namespaces."""

    def __init__(self, entries: Mapping[str, Any], namespaces: Sequence[str] = ()) -> None:
        self._entries = {
            **{name: MissingBinding(name, "not there yet while the module is imported")
               for name in namespaces},
            **entries,
        }  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_entries"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __getitem__(self, name: str) -> Any:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


_patches: ContextVar[Mapping[str, Any] | None] = ContextVar(
    "durable.workers env patches", default=None
)


class ImportedEnv(EnvWrapper):
    """`from workers import env`: the `env` of the Worker whose code uses it."""

    def __new__(cls) -> ImportedEnv:
        return object.__new__(cls)

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        patches = _patches.get() or {}
        if name in patches:
            return patches[name]
        return getattr(scope_of("workers.env").env, name)


imported_env: ImportedEnv = ImportedEnv()


@contextmanager
def patch_env(
    patches: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None, **more: Any
) -> Iterator[None]:
    """Within the block, `workers.env` has other values."""
    token = _patches.set({**(_patches.get() or {}), **dict(patches or {}), **more})
    try:
        yield
    finally:
        _patches.reset(token)


class MissingBinding:
    """A binding of the configuration that this library does not have: it raises when used."""

    def __init__(self, name: str, kind: str) -> None:
        self._name = name
        self._kind = kind

    def _refuse(self) -> NoReturn:
        raise NotHere(
            f"env.{self._name} is {self._kind}. `durable dev` has Durable Objects, service "
            f"bindings, assets and variables; patch the binding in your tests, or do without it"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def __call__(self, *args: Any, **options: Any) -> NoReturn:
        self._refuse()

    def __getitem__(self, key: Any) -> NoReturn:
        self._refuse()

    def __repr__(self) -> str:
        return f"<env.{self._name}: {self._kind}>"
