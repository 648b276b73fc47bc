"""Right answers of InfiniteBench: the files hold strings, numbers or lists of them, prediction files likewise.

Every function takes what stands in a file and the record's options, and gives the form that the scorers (the authors'
and ours) take; anything else is a ValueError that says what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from locret.eval.benchmarks.words import LETTERS

CHOICE = 2  # a choice as prediction files have it: the option's text and its letter


def text(value: Any, options: Sequence[str] = ()) -> str:
    """One string."""
    return str(_plain(_first(value)))


def texts(value: Any, options: Sequence[str] = ()) -> list[str]:
    """One or more strings, of which one has to be met."""
    return [str(_plain(one)) for one in _all(value)]


def number(value: Any, options: Sequence[str] = ()) -> int | float:
    """One number."""
    return _number(_plain(_first(value)))


def numbers(value: Any, options: Sequence[str] = ()) -> list[int]:
    """Whole numbers; a list of one list is that list."""
    values = _all(value)
    return [int(_plain(one)) for one in (_all(values[0]) if len(values) == 1 else values)]


def choice(value: Any, options: Sequence[str] = ()) -> list[str]:
    """The right option's text and its letter."""
    values = texts(value)
    if len(values) == CHOICE and values[1] in list(LETTERS):
        return values
    if len(values) == 1 and values[0] in options:
        return [values[0], LETTERS[list(options).index(values[0])]]
    raise ValueError("give [text, letter]" if not options else "give one of the options, or [text, letter]")


def _all(value: Any) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not values or values == [None]:
        raise ValueError("give one answer at least")
    return values


def _first(value: Any) -> Any:
    return _all(value)[0]


def _plain(value: Any) -> str | int | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("give text or a number, or a list of them")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("give a number that is finite")
    return value


def _number(value: Any) -> int | float:
    try:
        return value if isinstance(value, float) else int(value)
    except ValueError:
        return float(value)
