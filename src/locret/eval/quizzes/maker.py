"""The quiz of any cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from locret.eval.frame import frame_of
from locret.eval.grid import Cell
from locret.eval.haystack import Filler
from locret.eval.quizzes import origins
from locret.eval.quizzes.contract import Quiz
from locret.eval.quizzes.data import Data
from locret.eval.quizzes.examples import ExampleQuiz
from locret.eval.quizzes.files import Files
from locret.eval.quizzes.forced import ForcedQuiz
from locret.eval.quizzes.names import Kind, benchmark_task, kind_of
from locret.eval.quizzes.origins import Documents
from locret.eval.quizzes.templates import TemplateQuiz
from locret.eval.tasks import get_task


@dataclass
class QuizMaker:
    """Makes quizzes for one tokenizer.

    Attributes:
        tokenizer: of the model.
        filler: haystack of the templates.
        files: original files.
    """

    tokenizer: Any
    filler: Filler
    files: Files = field(default_factory=lambda: Files(Data()))

    def __post_init__(self) -> None:
        self._latest: tuple[tuple[object, ...], Documents] = ((), ())

    def quiz(self, cell: Cell) -> Quiz:
        """What a cell reads and asks.

        Raises:
            LocretError: its data cannot be read or made, or a chat is wanted of a tokenizer that has none.
        """
        kind = kind_of(cell.task)
        if kind is Kind.FORCED:
            return ForcedQuiz(cell, self.tokenizer, self.filler)
        frame = frame_of(self.tokenizer, cell.chat)
        tokens = answer_tokens(cell.task, cell.max_new_tokens)
        if kind is Kind.TEMPLATE:
            return TemplateQuiz(cell, self.tokenizer, self.filler, frame, tokens)
        limit = cell.length if kind is Kind.FILE else None  # what is made here has its length already
        task, documents = benchmark_task(cell.task), self._documents(cell)
        return ExampleQuiz(cell.task, task, documents, self.tokenizer, frame, limit, cell.query_first, tokens)

    def _documents(self, cell: Cell) -> Documents:
        if kind_of(cell.task) is Kind.FILE:
            return origins.drawn(self.files.documents(cell.task), cell.samples, cell.seed)
        made_by = (cell.task, cell.length, cell.samples, cell.seed)
        if self._latest[0] != made_by:  # every policy and budget gets the same ones, and they come one after another
            self._latest = made_by, self._made(cell)
        return self._latest[1]

    def _made(self, cell: Cell) -> Documents:
        wanted = (cell.task, self.tokenizer, cell.length, cell.samples, cell.seed)
        if kind_of(cell.task) is Kind.GENERATED:
            return origins.from_generator(*wanted)
        return origins.from_ruler(*wanted, self.files.sources(cell.task))


def answer_tokens(task: str, cap: int | None) -> int:
    """Tokens of an answer at most: as the task says, unless `cap` is less."""
    own = get_task(task).max_new_tokens if kind_of(task) is Kind.TEMPLATE else benchmark_task(task).max_new_tokens
    return own if cap is None else min(own, cap)
