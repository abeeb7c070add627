"""`Limits`: every bound is a number that makes sense, or is refused when it is given."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from durable import Limits

NAMES = [attribute.name for attribute in attrs.fields(Limits)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1, True, "7", None, math.nan])
def test_what_is_no_bound_is_refused(name: str, value: Any) -> None:
    """The error names the limit."""
    with pytest.raises((TypeError, ValueError), match=rf"Limits\.{name} "):
        Limits(**{name: value})


@pytest.mark.parametrize("name", [name for name in NAMES if name != "alarm_retries_max"])
def test_a_bound_of_nothing_is_refused(name: str) -> None:
    """Nothing would work."""
    with pytest.raises(ValueError, match=f"Limits.{name} must be above zero"):
        Limits(**{name: 0})


def test_what_is_counted_is_a_whole_number() -> None:
    """Seconds may have fractions."""
    assert Limits(idle_s_max=0.5).idle_s_max == 0.5
    with pytest.raises(TypeError, match="whole number"):
        Limits(keys_per_call_max=1.5)  # type: ignore[arg-type]


def test_an_alarm_may_have_no_retries() -> None:
    """The one bound of which zero makes sense."""
    assert Limits(alarm_retries_max=0).alarm_retries_max == 0
