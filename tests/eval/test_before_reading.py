"""What would end an evaluation halfway is said before its first document is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import locret
from locret.errors import LocretError
from locret.eval.frame import frame_of
from locret.eval.grid import BudgetRule, Cell, Grid, cells
from locret.eval.haystack import Filler
from locret.eval.planning import check_passage
from locret.eval.quizzes.contract import Passage, Question
from locret.eval.results import ResultFile, Subject
from locret.eval.runner import Reader, run_grid
from locret.eval.workers import Silent
from tests.eval.models import TEXT, byte_llama, byte_tokenizer

SUBJECT = Subject("tiny", "", "0", "float32", "test")
POLICIES = {"random": locret.get_policy("random")}
GRID = Grid(
    tasks=("magic",), lengths=(600,), budgets=(64,), samples=2, keys=2, rule=BudgetRule(chunk=100, local=8)
)  # fmt: skip


class Counting:
    """Stands for a watch; remembers which cells began."""

    def __init__(self) -> None:
        self.begun: list[Cell] = []

    def begin(self, cell: Cell, tokens: int) -> None:
        self.begun.append(cell)

    def __getattr__(self, name: str) -> Any:
        return getattr(Silent(), name)


def reader(watch: Any, text: str = TEXT) -> Reader:
    return Reader(byte_llama(), byte_tokenizer(), POLICIES, Filler(text), watch)


def test_a_later_cell_that_cannot_be_made_ends_the_run_at_once(tmp_path: Path) -> None:
    watch = Counting()
    grid = replace(GRID, tasks=("magic", "text"), lengths=(1200, 3000))
    with pytest.raises(LocretError, match=r"the filler has .* tokens"):
        run_grid(reader(watch, TEXT[:1500]), grid, SUBJECT, ResultFile(tmp_path))
    assert watch.begun == []


def test_cells_that_are_there_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run_grid(reader(Silent()), GRID, SUBJECT, ResultFile(tmp_path))
    checked: list[Cell] = []
    monkeypatch.setattr(Reader, "check", lambda self, cell: checked.append(cell))
    assert run_grid(reader(Silent()), GRID, SUBJECT, ResultFile(tmp_path)) == rows
    assert checked == []
    more = replace(GRID, budgets=(64, 80, 96))
    run_grid(reader(Silent()), more, SUBJECT, ResultFile(tmp_path))
    assert len(checked) == 1  # both budgets have the same documents


def test_documents_are_counted_to_the_token() -> None:
    [cell] = cells(GRID, POLICIES)
    passage = Passage(0, (5,) * 600, (Question("a", (5,) * 10, None), Question("b", (5,) * 30, None)))
    check_passage(cell, passage, 20, 600 + 30 + 19)
    with pytest.raises(LocretError, match=r"document 0 of magic has 600 tokens, its longest question 30 .* 1 less"):
        check_passage(cell, passage, 20, 600 + 30 + 18)
    compact = replace(cell, budget=replace(cell.budget, positions="compact"))
    check_passage(compact, passage, 20, 600)
    with pytest.raises(LocretError, match="1 less"):  # full attention reads it for comparison
        check_passage(replace(compact, task="text"), passage, 0, 600 + 30 - 1)


def test_a_template_that_refuses_a_message_is_told_in_words() -> None:
    tokenizer: PreTrainedTokenizerFast = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('not today') }}"
    with pytest.raises(LocretError, match=r"refuses the message \(not today\): leave out --chat"):
        frame_of(tokenizer, chat=True)
