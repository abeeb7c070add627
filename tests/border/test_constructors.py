"""Which classes have a constructor: an object of one that has none is made without a delivery."""

from __future__ import annotations

from typing import Any

import pytest

import durable
from durable._border.durable_object import has_constructor


class Bare(durable.DurableObject):
    """Its author has written no constructor."""

    ctx: Any  # an annotation alone is no attribute

    def value(self) -> int:
        return 1


class _Meta(type):
    def __call__(cls, *args: Any) -> Any:
        return super().__call__(*args)


class WithInit(Bare):
    def __init__(self, ctx: durable.State, env: Any) -> None:
        super().__init__(ctx, env)


class WithNew(Bare):
    def __new__(cls, *args: Any) -> WithNew:
        return super().__new__(cls)


class WithSetattr(Bare):
    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)


class WithMeta(Bare, metaclass=_Meta):
    pass


class WithProperty(durable.DurableObject):
    @property
    def env(self) -> Any:
        return None

    @env.setter
    def env(self, env: Any) -> None:
        pass


class Mixin:
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)


class WithMixin(Mixin, Bare):
    pass


def test_a_class_that_adds_methods_has_no_constructor() -> None:
    """Nor has one that inherits from it."""
    assert not has_constructor(Bare)
    assert not has_constructor(type("Heir", (Bare,), {}))


@pytest.mark.parametrize("cls", [WithInit, WithNew, WithSetattr, WithMeta, WithProperty, WithMixin])
def test_whatever_runs_as_an_instance_is_made_is_a_constructor(cls: type) -> None:
    """It may wait, write or fail, which takes a delivery."""
    assert has_constructor(cls)
    assert has_constructor(type(cls)("Heir", (cls,), {}))
