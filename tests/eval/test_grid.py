from __future__ import annotations

from fractions import Fraction

import pytest

import locret
from locret.engine import parse
from locret.errors import LocretError
from locret.eval.grid import BudgetRule, Grid, cells, parse_budget, size_of
from locret.eval.reading import Combined, Compared

POLICIES: dict[str, Compared] = {name: locret.get_policy(name) for name in ("full", "streaming_llm", "random")}


def test_policies_that_evict_nothing_are_read_once_for_all_budgets() -> None:
    grid = Grid(tasks=("magic", "mix"), lengths=(512, 1024), budgets=(64, Fraction(1, 8)), seeds=(0, 1))
    found = list(cells(grid, POLICIES))
    sizes = [cell.budget.size for cell in found if (cell.task, cell.length, cell.seed) == ("mix", 1024, 1)]
    assert sizes == [1024, 64, 128, 64, 128]  # full, then two budgets of either rival
    assert len(found) == 2 * 2 * 2 * 5


def test_what_goes_by_the_budget_has_a_cell_for_each() -> None:
    names = ("full", "quant4", "minference", "infllm", "streaming_llm+recall")
    methods = {name: Combined(parse(name), locret.get_policy(parse(name).policy)) for name in names}
    found = cells(Grid(tasks=("mix",), lengths=(1024,), budgets=(64, 128)), methods)
    once = [("full", 1024), ("quant4", 1024), ("minference", 1024)]
    each = [("infllm", 64), ("infllm", 128), ("streaming_llm+recall", 64), ("streaming_llm+recall", 128)]
    assert [(cell.policy, cell.budget.size) for cell in found] == once + each


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100, 4096])
@pytest.mark.parametrize("length", [512, 16384, 100_000])
def test_default_budgets_are_valid_at_any_size(size: int, length: int) -> None:
    budget = BudgetRule().budget(size, length)
    assert budget.size == size
    assert budget.stabilizers <= size // 4
    assert budget.chunk == (1024 if length >= 16384 else 256)


def test_given_values_replace_the_defaults() -> None:
    budget = BudgetRule(chunk=7, stabilizers=3, local=0, positions="compact").budget(64, 512)
    assert (budget.chunk, budget.stabilizers, budget.local, budget.positions) == (7, 3, 0, "compact")


def test_pins_are_taken_as_they_are_given() -> None:
    budget = BudgetRule(pin_first=4, pin_newest=50).budget(64, 512)
    assert (budget.pin_first, budget.pin_newest) == (4, 50)


def test_budgets_are_numbers_or_parts() -> None:
    assert size_of(parse_budget("1/16"), 4096) == 256
    assert size_of(parse_budget("300"), 4096) == 300


@pytest.mark.parametrize("text", ["", "x", "1/0", "0", "-3", "-1/2", "1.5"])
def test_bad_budgets_are_named(text: str) -> None:
    with pytest.raises(LocretError, match="budget is") as caught:
        parse_budget(text)
    assert text in str(caught.value)
    assert "1/16" in str(caught.value)


def test_a_part_that_leaves_no_unit_is_refused() -> None:
    with pytest.raises(LocretError, match="0 units: give at least 1"):
        Grid(tasks=("mix",), lengths=(16,), budgets=(Fraction(1, 32),))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("nothing",)}, "unknown task 'nothing': choose one of .*mix"),
        ({"samples": 0}, "samples is 0: ask at least 1"),
        ({"keys": 0}, "keys is 0: hide at least 1"),
        ({"split": "both"}, "split is 'both': choose one of trained, heldout"),
        ({"lengths": (0,)}, "length is 0"),
        ({"lengths": ()}, "no lengths are given"),
        ({"budgets": (40,), "rule": BudgetRule(stabilizers=32, local=32)}, "budget size is 40, less than"),
        ({"rule": BudgetRule(pin_newest=65)}, "budget size is 64, less than .* the newest 65: raise the size or lower"),
    ],
)
def test_bad_grids_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        Grid(**{"tasks": ("mix",), "lengths": (512,), "budgets": (64,), **change})  # type: ignore[arg-type]


def test_no_more_facts_than_questions_are_hidden() -> None:
    grid = Grid(tasks=("mix",), lengths=(512,), budgets=(64,), samples=3)
    assert {cell.keys for cell in cells(grid, POLICIES)} == {3}
