from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.grid import BudgetRule, Grid
from locret.eval.planning import Shard, check_window, parse_shard, plan
from tests.eval.oracle import CONFIG, Oracle, grid, oracle_reader
from tests.eval.quizzes.conftest import coursera as coursera

COMPACT = BudgetRule(positions="compact")


def planned(wanted: Grid, *data: Any) -> list[Any]:
    policies = {"full": Oracle(budgeted=False), "x": Oracle()}
    return plan(CONFIG, wanted, policies, oracle_reader(policies, *data).files)


def test_shards_share_all_cells() -> None:
    cells = planned(grid("magic", "vt", budgets=(32, 64), seeds=(0, 1)))
    parts = [Shard(index, 3).of(cells) for index in range(3)]
    assert sorted(map(len, parts)) == [4, 4, 4]
    assert {cell for part in parts for cell in part} == set(cells)
    assert Shard().of(cells) == cells


@pytest.mark.parametrize("text", ["", "1", "2/2", "-1/2", "a/b", "1/0", "/", "1/2/3"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(LocretError, match=r"shard is .*: give i/n with i from 0 to n - 1"):
        parse_shard(text)
    assert parse_shard("1/2") == Shard(1, 2)


def test_original_documents_are_cut_to_the_window(coursera: Path) -> None:
    wanted = grid("leval/coursera", lengths=(900, 8000, 50_000), budgets=(Fraction(1, 4),), samples=100)
    cells = planned(wanted, coursera)
    assert [(c.policy, c.length, c.budget.size) for c in cells] == [
        ("full", 900, 900), ("x", 900, 225), ("full", 3584, 3584), ("x", 3584, 896),
    ]  # fmt: skip
    assert {cell.samples for cell in cells} == {6}
    assert {cell.data.split()[0] for cell in cells} == {"coursera.jsonl"}
    longer = planned(replace(wanted, max_new_tokens=96, lengths=(50_000,)), coursera)
    assert {cell.length for cell in longer} == {4000}
    assert {cell.length for cell in planned(replace(wanted, rule=COMPACT), coursera)} == {900, 8000, 50_000}


def test_answers_that_fill_the_window_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "math_calc.jsonl"
    path.write_text('{"id": 0, "context": "1 + 1", "input": "", "answer": [1, 2], "options": []}\n')
    with pytest.raises(LocretError, match=r"infinitebench/math_calc allows 30000 tokens of answer, .*max-new-tokens"):
        planned(grid("infinitebench/math_calc"), path)


@pytest.mark.parametrize(
    ("task", "most"), [("magic", 3968), ("kv_retrieval", 4046), ("math_find", 4093), ("niah_single_1", 4096)]
)
def test_room_for_the_answer(task: str, most: int) -> None:
    [cell, *_] = planned(grid(task, lengths=(512,)))
    check_window(replace(cell, length=most), 4096)
    with pytest.raises(LocretError, match=f"length {most + 1} leaves no room .* give at most {most}, or"):
        check_window(replace(cell, length=most + 1), 4096)


def test_room_for_a_question_that_is_asked_twice() -> None:
    [cell, *_] = planned(grid("niah_single_1", query_first=True))
    with pytest.raises(LocretError, match="give at most 3968"):
        check_window(replace(cell, length=4096), 4096)


def test_a_dense_method_has_no_compact_positions() -> None:
    with pytest.raises(LocretError, match="dense reads with true positions"):
        plan(CONFIG, grid("magic", rule=COMPACT), {"dense": Oracle(prefill="dense")}, oracle_reader({}).files)
