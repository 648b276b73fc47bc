"""Frozen values out of JSON objects: every field of the type that its class says, or a refusal that names it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from itertools import islice
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from locret.errors import LocretError

T = TypeVar("T")
SHOWN = 40  # characters of a value in a message

_PLAIN: dict[Any, Callable[[Any], bool]] = {
    str: lambda value: type(value) is str,
    bool: lambda value: type(value) is bool,
    int: lambda value: type(value) is int,  # a bool is an int to isinstance
    float: lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max,  # NaN is not
    NoneType: lambda value: value is None,
}
_COMPOSED: dict[Any, Callable[[Any, tuple[Any, ...]], bool]] = {
    Union: lambda value, kinds: any(is_of(value, kind) for kind in kinds),
    UnionType: lambda value, kinds: any(is_of(value, kind) for kind in kinds),
    Literal: lambda value, allowed: type(value) is str and value in allowed,
    tuple: lambda value, kinds: type(value) is list and all(is_of(each, kinds[0]) for each in value),
    Mapping: lambda value, kinds: type(value) is dict and all(is_of(each, kinds[1]) for each in value.values()),
}


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a type: plain, optional, literal text, `tuple[x, ...]` or `Mapping[str, x]`."""
    composed = _COMPOSED.get(get_origin(kind))
    return composed(value, get_args(kind)) if composed else _PLAIN[kind](value)


def from_object(kind: Callable[..., T], values: Any, **made: Any) -> T:
    """A frozen dataclass of the fields of a JSON object; lists become tuples, and what it has besides is passed over.

    Args:
        kind: the class.
        values: the object.
        made: fields that are made otherwise.

    Raises:
        LocretError: it is no object, lacks a field that has no default, or a field is of another type; or the class
            itself refuses the values. It says nothing but what is wrong: who reads a file adds its name.
    """
    values, given = as_object(values), dict(made)
    for name, (wanted, needed) in _wanted(kind).items():
        if name in made:
            continue
        if name in values:
            if not is_of(values[name], wanted):
                raise LocretError(f"{name} is {shown(values[name])}, which is no {_named(wanted)}")
            given[name] = tuple(values[name]) if type(values[name]) is list else values[name]
        elif needed:
            raise LocretError(f"it has no {name}")
    return kind(**given)


def as_object(value: Any) -> dict[str, Any]:
    """A value that is a JSON object.

    Raises:
        LocretError: it is something else.
    """
    if type(value) is not dict:
        raise LocretError(f"{shown(value)} is no JSON object")
    return value


def shown(value: Any) -> str:
    """A value of JSON in a message: its beginning."""
    pieces = json.JSONEncoder(ensure_ascii=False).iterencode(value)  # lazy: what is nested deeply is not gone through
    text = "".join(islice(pieces, SHOWN + 1))
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


@cache
def _wanted(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The type of each field, and whether it must be given."""
    hints = get_type_hints(kind)
    return {
        one.name: (hints[one.name], one.default is MISSING and one.default_factory is MISSING) for one in fields(kind)
    }


def _named(kind: Any) -> str:
    """A type in a message: `int`, `float | None`."""
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
