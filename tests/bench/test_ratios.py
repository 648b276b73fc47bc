from __future__ import annotations

import pytest

import locret
from locret.bench import Row, Run, prefill_ratio, ratio


def row(name: str, *seconds: float) -> Row:
    return Row(name, 100, 1, tuple(Run(each, each, 0.0, 0, 0, 0) for each in seconds))


def test_a_machine_that_slows_down_hardly_changes_the_ratio_by_rounds() -> None:
    found = ratio([2.0, 20.0, 200.0, 2.2], [1.0, 10.0, 100.0, 1.0])
    assert found.rounds == (2.0, 2.0, 2.0, 2.2)
    assert found.of_rounds == 2.0
    assert found.of_medians == pytest.approx(11.1 / 5.5)
    assert found.as_json() == {"of_medians": found.of_medians, "of_rounds": 2.0, "rounds": (2.0, 2.0, 2.0, 2.2)}


def test_the_two_ratios_differ_where_the_rounds_do() -> None:
    found = ratio([1.0, 5.0, 9.0], [9.0, 5.0, 1.0])
    assert (found.of_medians, found.of_rounds) == (1.0, 1.0)
    found = ratio([1.0, 2.0, 30.0], [1.0, 10.0, 10.0])
    assert (found.of_medians, found.of_rounds) == (0.2, 1.0)


@pytest.mark.parametrize(("over", "under"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0])])
def test_rounds_must_match(over: list[float], under: list[float]) -> None:
    with pytest.raises(locret.LocretError, match="same number of both"):
        ratio(over, under)


def test_reading_of_rows() -> None:
    found = prefill_ratio(row("locret", 3.0, 6.0), row("limit", 2.0, 4.0))
    assert found is not None and found.of_rounds == 1.5
    assert prefill_ratio(row("locret", 3.0), row("full")) is None
