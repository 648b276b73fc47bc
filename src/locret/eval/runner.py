"""The runner: reads documents under a policy and a budget, asks, and scores the answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from locret.errors import LocretError
from locret.eval.contexts import contexts
from locret.eval.grid import Cell, Grid, cells
from locret.eval.haystack import Context, Filler, prompt_ids, question_ids
from locret.eval.intervals import wilson
from locret.eval.needles import Needle
from locret.eval.reading import CHUNKED, Compared, Read, Reading, open_reading
from locret.eval.results import Measures, ResultFile, Row, Subject
from locret.eval.tasks import get_task
from locret.models.families import text_config

QUESTION_ROOM = 128  # tokens for a question, perhaps asked twice, and its answer


class Watch(Protocol):
    """Who is told how a run goes on."""

    def begin(self, cell: Cell, tokens: int) -> None:
        """A cell begins; it will read `tokens` tokens of documents."""

    def advance(self, tokens: int) -> None:
        """So many more tokens have been read."""

    def answered(self, cell: Cell, context: Context, session: Read, right: Mapping[int, float]) -> None:
        """Questions about `session` were answered: index of the needle -> score (0 to 1)."""

    def end(self, row: Row, resumed: bool) -> None:
        """A cell is finished; `resumed` if its row was found in the results of an earlier run."""


@dataclass(frozen=True)
class Reader:
    """A model with its tokenizer, policies and haystack: everything a cell needs.

    Attributes:
        model, tokenizer: a causal language model of transformers and its tokenizer.
        policies: by the name that rows carry; also methods that read in their own way.
        filler: text that needles are hidden in.
        watch: who is told.
    """

    model: Any
    tokenizer: Any
    policies: Mapping[str, Compared]
    filler: Filler
    watch: Watch

    def evaluate(self, cell: Cell) -> Measures:
        """Read the cell's documents and ask all its questions.

        The question comes after everything was read and evicted; the document is read once for all of its questions.
        With `query_first` the question also stands before the document, so each needs a reading of its own.
        """
        reading = open_reading(self.policies[cell.policy], self.model, self.tokenizer, cell.budget)
        readings = cell.samples if cell.query_first else -(-cell.samples // cell.keys)
        self.watch.begin(cell, readings * cell.length)
        tally = Tally()
        for context in contexts(cell, self.tokenizer, self.filler):
            for document, asked in self._readings(cell, context):
                session = self._read(reading, cell, document)
                tally.read(session)
                right = {index: self._ask(reading, cell, session, context.needles[index], tally) for index in asked}
                self.watch.answered(cell, context, session, right)
        return tally.measures()

    def _readings(self, cell: Cell, context: Context) -> Iterator[tuple[list[int], range]]:
        """Token ids to read, and which needles to ask for after reading them."""
        if not cell.query_first:
            yield list(context.document_ids), range(len(context.needles))
            return
        for index, needle in enumerate(context.needles):
            whole = prompt_ids(self.tokenizer, context, needle, question_first=True)
            yield whole[: -len(question_ids(self.tokenizer, needle))], range(index, index + 1)

    def _read(self, reading: Reading[Any], cell: Cell, document: list[int]) -> Read:
        told = 0

        def progress(done: int, total: int) -> None:
            nonlocal told
            share = cell.length * done // total  # a question in front of the document is not counted
            self.watch.advance(share - told)
            told = share

        read: Read = reading.read(document, progress)
        return read

    def _ask(self, reading: Reading[Any], cell: Cell, session: Read, needle: Needle, tally: Tally) -> float:
        task = get_task(cell.task)
        began = time.perf_counter()
        answer = reading.ask(session, question_ids(self.tokenizer, needle), task.max_new_tokens, task.stop)
        score = task.score(answer, needle)
        tally.scores.append(score)
        tally.decode_seconds.append(time.perf_counter() - began)
        return score


@dataclass
class Tally:
    """What a cell has brought so far."""

    scores: list[float] = field(default_factory=list)
    kv_bytes: list[int] = field(default_factory=list)
    prefill_seconds: list[float] = field(default_factory=list)
    decode_seconds: list[float] = field(default_factory=list)

    def read(self, session: Read) -> None:
        """Count a document that was read."""
        self.kv_bytes.append(session.kv_bytes)
        self.prefill_seconds.append(session.prefill_seconds)

    def measures(self) -> Measures:
        """Means, and the interval of the score."""
        share = sum(self.scores) / len(self.scores)
        low, high = wilson(share, len(self.scores))
        return Measures(
            score=round(100 * share, 2),
            low=round(100 * low, 2),
            high=round(100 * high, 2),
            kv_bytes=max(self.kv_bytes),
            prefill_seconds=round(sum(self.prefill_seconds) / len(self.prefill_seconds), 4),
            decode_seconds=round(sum(self.decode_seconds) / len(self.decode_seconds), 4),
        )


def check_window(cell: Cell, window: int) -> None:
    """Refuse a document that leaves no room for its question, before hours are spent on reading.

    Raises:
        LocretError: with the length, the window and the remedy; or positions that a dense reading does not have.
    """
    if cell.prefill != CHUNKED and cell.budget.positions != "true":
        raise LocretError(f"{cell.policy} reads with true positions: leave out --positions {cell.budget.positions}")
    if cell.budget.positions == "true" and cell.length + QUESTION_ROOM > window:
        raise LocretError(
            f"length {cell.length} leaves no room for a question in the model's window of {window}: "
            f"give at most {window - QUESTION_ROOM}, or --positions compact"
        )


def run_grid(reader: Reader, grid: Grid, subject: Subject, results: ResultFile | None = None) -> list[Row]:
    """Evaluate every cell of a grid, in order.

    Args:
        reader: model, policies, haystack.
        grid: what to evaluate.
        subject: what the rows say was evaluated.
        results: where each row is put as soon as it is known; cells that are there already are not evaluated again.

    Raises:
        LocretError: a document with its question does not fit the model's window.
    """
    planned = list(cells(grid, reader.policies))
    for cell in planned:
        check_window(cell, text_config(reader.model.config).max_position_embeddings)
    rows = []
    for cell in planned:
        row = results.find(cell, subject) if results else None
        resumed = row is not None
        if row is None:
            row = Row(cell, reader.evaluate(cell), subject)
            if results:
                results.append(row)
        reader.watch.end(row, resumed)
        rows.append(row)
    return rows
