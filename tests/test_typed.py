from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from locret.errors import LocretError
from locret.typed import from_object, shown


@dataclass(frozen=True)
class Thing:
    name: str
    count: int
    share: float = 0.5
    kind: Literal["a", "b"] = "a"
    most: int | None = None
    samples: tuple[float, ...] = ()
    parts: Mapping[str, float] | None = None
    made: object = None


GOOD = {"name": "x", "count": 3}


def test_an_object_becomes_the_value_and_what_else_it_has_is_passed_over() -> None:
    given = {**GOOD, "share": 1, "kind": "b", "most": 7, "samples": [1, 2.5], "parts": {"p": 1}, "other": []}
    assert from_object(Thing, given, made=7) == Thing("x", 3, 1, "b", 7, (1, 2.5), {"p": 1}, 7)
    assert from_object(Thing, GOOD, made=None) == Thing("x", 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": None}, "name is null, which is no str"),
        ({"count": 3.0}, "count is 3.0, which is no int"),
        ({"count": True}, "count is true, which is no int"),
        ({"share": float("nan")}, "share is NaN, which is no float"),
        ({"share": float("-inf")}, "share is -Infinity, which is no float"),
        ({"share": 10**400}, "share is 1000"),
        ({"share": False}, "share is false"),
        ({"kind": "c"}, 'kind is "c"'),
        ({"kind": []}, r"kind is \[\]"),
        ({"most": "7"}, 'most is "7", which is no int | None'),
        ({"samples": [1, None]}, "samples is"),
        ({"samples": 5}, "samples is 5"),
        ({"parts": {"p": "q"}}, "parts is"),
        ({"parts": [1]}, "parts is"),
    ],
)
def test_a_field_of_another_type_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(LocretError, match=words.replace("|", r"\|")):
        from_object(Thing, {**GOOD, **change}, made=None)


@pytest.mark.parametrize("value", [None, [], [["name", "x"]], "x", 5])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(LocretError, match="is no JSON object"):
        from_object(Thing, value, made=None)


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(LocretError, match="it has no count"):
        from_object(Thing, {"name": "x"}, made=None)


def test_a_value_is_shown_by_its_beginning_however_deep_it_is() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[" * 37 + "..."
    assert shown("x" * 50) == '"' + "x" * 36 + "..."
    assert shown({"a": None}) == '{"a": null}'
