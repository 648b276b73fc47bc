"""The runner: reads documents under a policy and a budget, asks, and writes down the answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

from locret.eval.benchmarks.truncation import PromptIds
from locret.eval.fidelity import Continuation, Distances, distances, measured_logits
from locret.eval.fidelity.reference import References
from locret.eval.grid import Cell, Grid
from locret.eval.haystack import Filler
from locret.eval.measures import measures_of
from locret.eval.planning import check_passage, plan
from locret.eval.predictions import Predictions, Unwritten, open_predictions
from locret.eval.quizzes.contract import Passage, Question, Quiz
from locret.eval.quizzes.data import Data
from locret.eval.quizzes.files import Files
from locret.eval.quizzes.maker import QuizMaker
from locret.eval.quizzes.names import Kind, kind_of
from locret.eval.reading import Compared, Read, Reading, open_reading
from locret.eval.results import Measures, ResultFile, Row, Subject
from locret.models.families import text_config


class Watch(Protocol):
    """Who is told how a run goes on."""

    def begin(self, cell: Cell, tokens: int) -> None:
        """A cell begins; it will read `tokens` tokens of documents."""

    def advance(self, tokens: int) -> None:
        """So many more tokens have been read."""

    def answered(self, cell: Cell, passage: Passage, session: Read, right: Mapping[int, float]) -> None:
        """Questions of a passage were answered: index of the question -> score (0 to 1)."""

    def end(self, row: Row, resumed: bool) -> None:
        """A cell is finished; `resumed` if its row was found in the results of an earlier run."""


@dataclass(frozen=True)
class Reader:
    """A model with its tokenizer, policies and documents: everything a cell needs.

    Attributes:
        model, tokenizer: a causal language model of transformers and its tokenizer.
        policies: policies, methods and what reads in its own way, by the name that rows carry.
        filler: text that needles are hidden in.
        watch: who is told.
        files: original files of benchmarks.
    """

    model: Any
    tokenizer: Any
    policies: Mapping[str, Compared]
    filler: Filler
    watch: Watch
    files: Files = field(default_factory=lambda: Files(Data()))

    @cached_property
    def quizzes(self) -> QuizMaker:
        """The documents and questions."""
        return QuizMaker(self.tokenizer, self.filler, self.files)

    @cached_property
    def references(self) -> References:
        """What full attention predicts, where methods are compared with it."""
        return References(self.model, self.tokenizer)

    def evaluate(self, cell: Cell, predictions: Predictions | None = None) -> Measures:
        """Read the cell's documents and ask all its questions that have no prediction yet.

        The question comes after everything was read and evicted; the document is read once for all of its questions.
        With `query_first` the question also stands before the document, so each needs a reading of its own.

        Args:
            cell: what to read, and how.
            predictions: of an earlier run; every answer is added at once. None begins with none.

        Raises:
            LocretError: the documents cannot be read or made, or do not fit.
        """
        known: Predictions = Unwritten() if predictions is None else predictions
        quiz = self.quizzes.quiz(cell)
        reading = open_reading(self.policies[cell.policy], self.model, self.tokenizer, cell.budget)
        done = {line["uid"] for line in known.lines}
        self.watch.begin(cell, quiz.readings * cell.length)
        for passage in quiz.passages():
            left = {number: one for number, one in enumerate(passage.questions) if one.uid not in done}
            if not left:
                self.watch.advance(cell.length)
                continue
            session = self._read(reading, cell, passage)
            asker = Asker(quiz, reading, passage, session, cell, self)
            for question in left.values():
                known.append(asker.line(question))
            scores = [line["score"] for line in known.lines[-len(left) :]]
            self.watch.answered(cell, passage, session, dict(zip(left, scores, strict=True)))
        return measures_of(cell.task, known.lines)

    def check(self, cell: Cell) -> None:
        """Make the documents and questions of a cell once, and refuse what would end it halfway.

        Of tasks that take long to make, only the first document: the others are as long.

        Raises:
            LocretError: a document cannot be made, or it does not fit the model's window with its question and answer.
        """
        slow = kind_of(cell.task) in (Kind.GENERATED, Kind.RULER)
        quiz = self.quizzes.quiz(replace(cell, samples=1) if slow else cell)
        window = text_config(self.model.config).max_position_embeddings
        for passage in quiz.passages():
            check_passage(cell, passage, quiz.max_new_tokens, window)

    def _read(self, reading: Reading[Any], cell: Cell, passage: Passage) -> Read:
        told = 0

        def progress(done: int, total: int) -> None:
            nonlocal told
            share = cell.length * done // total  # a question in front of the document is not counted
            self.watch.advance(share - told)
            told = share

        read: Read = reading.read(passage.ids, progress, passage.asked)
        return read


@dataclass(frozen=True)
class Asker:
    """Asks about a passage that has been read: see `quizzes.contract.Asked`."""

    quiz: Quiz
    reading: Reading[Any]
    passage: Passage
    session: Read
    cell: Cell
    reader: Reader

    def line(self, question: Question) -> dict[str, Any]:
        """The line of the prediction file: what the quiz says of the answer, and what it took."""
        began, aside = time.perf_counter(), self.reader.references.seconds
        line = self.quiz.line(question, self)
        aside -= self.reader.references.seconds  # full attention's time is not the method's
        return {
            **line,
            "document": self.passage.document,
            "depth": None if question.depth is None else round(question.depth, 4),
            "kv_bytes": self.session.kv_bytes,
            "offloaded_bytes": self.session.offloaded_bytes,
            "prefill_seconds": round(self.session.prefill_seconds, 4),
            "decode_seconds": round(time.perf_counter() - began + aside, 4),
        }

    def answer(self, prompt: PromptIds) -> str:
        """Write an answer to a question, or to a prompt of its own."""
        session = self.session
        if prompt.context:
            session = self.reading.read(prompt.context, lambda done, total: None)
        return self.reading.ask(session, prompt.question, self.quiz.max_new_tokens, self.quiz.stop)

    def distances(self, continuation: Continuation) -> Distances:
        """Force a continuation, and compare with full attention over the same document."""
        cell, passage = self.cell, self.passage
        block = (cell.task, cell.length, cell.seed, cell.samples, cell.chat)
        logits = measured_logits(self.reading.score(self.session, continuation.ids), continuation)
        full = self.reader.references.logits(block, passage.document, passage.ids, continuation, cell.budget)
        return distances(logits, full, continuation.targets)


def run_grid(reader: Reader, grid: Grid, subject: Subject, results: ResultFile | None = None) -> list[Row]:
    """Evaluate every cell of a grid, in order.

    Args:
        reader: model, policies, documents.
        grid: what to evaluate.
        subject: what the rows say was evaluated.
        results: where each row is put as soon as it is known; cells that are there already are not evaluated again.

    Raises:
        LocretError: a document with its question does not fit the model's window.
    """
    return run_cells(reader, plan(reader.model.config, grid, reader.policies, reader.files), subject, results)


def run_cells(
    reader: Reader, planned: Iterable[Cell], subject: Subject, results: ResultFile | None = None
) -> list[Row]:
    """Evaluate cells, in order; arguments as in `run_grid`. What can be known of all of them is checked before."""
    planned = list(planned)
    left = [cell for cell in planned if not (results and results.find(cell, subject))]
    for cell in {cell.documents: cell for cell in left}.values():
        reader.check(cell)
    if results:
        results.make()
    rows = []
    for cell in planned:
        row = results.find(cell, subject) if results else None
        resumed = row is not None
        if row is None:
            predictions = open_predictions(results.folder, cell, subject) if results else None
            row = Row(cell, reader.evaluate(cell, predictions), subject)
            if results:
                results.append(row)
        reader.watch.end(row, resumed)
        rows.append(row)
    return rows
