"""Which cells a run evaluates, checked before hours are spent on reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from locret.errors import LocretError
from locret.eval.grid import Cell, Extent, Grid, cells
from locret.eval.quizzes.contract import Passage
from locret.eval.quizzes.files import Files
from locret.eval.quizzes.maker import answer_tokens
from locret.eval.quizzes.names import Kind, kind_of
from locret.eval.reading import CHUNKED, Compared
from locret.models.families import text_config

QUESTION_ROOM = 128  # tokens for a question, perhaps asked twice, and its answer
FORCED_ROOM = {"facts": 384, "repeat": 160, "text": 96}  # about what a continuation takes in a usual vocabulary


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a run: every `count`-th cell from cell `index` on."""

    index: int = 0
    count: int = 1

    def of(self, planned: Sequence[Cell]) -> list[Cell]:
        """The cells of this part."""
        return list(planned[self.index :: self.count])


def parse_shard(text: str) -> Shard:
    """A shard as the user writes it: `0/4` is the first of four.

    Raises:
        LocretError: not of that form, or there is no such part.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()) or int(index) >= int(count):
        raise LocretError(f"shard is {text!r}: give i/n with i from 0 to n - 1, such as 0/4 for the first of four")
    return Shard(int(index), int(count))


def plan(config: Any, grid: Grid, policies: Mapping[str, Compared], files: Files) -> list[Cell]:
    """All cells of a grid, in order, each once.

    Args:
        config: of the model.
        grid: what is wanted.
        policies: by the name that rows carry.
        files: original files; documents in them are cut to what the model's window holds.

    Raises:
        LocretError: a document with its question does not fit the window, or a file is missing.
    """
    window = text_config(config).max_position_embeddings

    def extent(task: str, length: int, samples: int) -> Extent:
        found = files.extent(task, length, samples)
        if kind_of(task) is not Kind.FILE or grid.rule.positions != "true":
            return found
        room = window - answer_tokens(task, grid.max_new_tokens)
        if room < 1:
            raise LocretError(
                f"{task} allows {window - room} tokens of answer, which leaves no room in the model's window of "
                f"{window}: give --max-new-tokens, or --positions compact"
            )
        return replace(found, length=min(found.length, room))

    planned = list(dict.fromkeys(cells(grid, policies, extent)))
    for cell in planned:
        check_window(cell, window)
    return planned


def check_window(cell: Cell, window: int) -> None:
    """Refuse a document that leaves no room for its question.

    Raises:
        LocretError: with the length, the window and the remedy; or positions that a dense reading does not have.
    """
    if cell.prefill != CHUNKED and cell.budget.positions != "true":
        raise LocretError(f"{cell.policy} reads with true positions: leave out --positions {cell.budget.positions}")
    room = _room(cell)
    if kind_of(cell.task) is Kind.FORCED and cell.length + room > window:
        raise LocretError(
            f"length {cell.length} leaves no room for {cell.task} in the model's window of {window}, within which full "
            f"attention must read it for comparison: give at most {window - room}"
        )
    if cell.budget.positions == "true" and cell.length + room > window:
        raise LocretError(
            f"length {cell.length} leaves no room for a question in the model's window of {window}: "
            f"give at most {window - room}, or --positions compact"
        )


def check_passage(cell: Cell, passage: Passage, answer: int, window: int) -> None:
    """Refuse a document that was made and does not fit the window with the longest of its questions and an answer.

    Raises:
        LocretError: with the tokens of each.
    """
    bounded = cell.budget.positions == "true" or kind_of(cell.task) is Kind.FORCED
    asked = max((len(question.ids) for question in passage.questions), default=0)
    needed = len(passage.ids) + asked + max(answer - 1, 0)
    if bounded and needed > window:
        raise LocretError(
            f"document {passage.document} of {cell.task} has {len(passage.ids)} tokens, its longest question {asked} "
            f"and an answer at most {answer}, which is more than the model's window of {window}: give a length that is "
            f"{needed - window} less, or --positions compact"
        )


def _room(cell: Cell) -> int:
    """Tokens that come on top of the cell's length."""
    kind = kind_of(cell.task)
    if kind is Kind.FORCED:
        return FORCED_ROOM[cell.task]
    own = answer_tokens(cell.task, cell.max_new_tokens)
    around = QUESTION_ROOM if cell.query_first or cell.chat else 0  # a question twice, and what a chat puts around it
    return {
        Kind.TEMPLATE: QUESTION_ROOM,
        Kind.GENERATED: own + around,
        Kind.RULER: around,  # the answer's room is part of the length
        Kind.FILE: own,
    }[kind]
