"""The score of a cell, from its predictions alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from locret.errors import LocretError
from locret.eval.benchmarks.base import BenchmarkTask, Divided, details
from locret.eval.benchmarks.leval_scores import mean
from locret.eval.intervals import Together
from locret.eval.quizzes.names import Kind, benchmark_task, kind_of
from locret.typed import from_object

Line = Mapping[str, Any]
T = TypeVar("T")
LINE_BY_LINE = (Kind.TEMPLATE, Kind.FORCED)  # the score is the mean of the lines' own


@dataclass(frozen=True)
class Judged:
    """A score, and what it is made of.

    Attributes:
        score: per cent.
        columns: [lines, parts], per cent; NaN where a line does not count to a part.
        together: the score out of the parts' means.
        parts: of the score, by name, where the benchmark's authors report some.
    """

    score: float
    columns: NDArray[np.float64]
    together: Together
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scored:
    """A line that says itself how right it is, 0 to 1."""

    score: float


def told(kind: type[T], line: Line) -> T:
    """What a prediction says beside its answer.

    Raises:
        LocretError: it does not say it; the message names the prediction.
    """
    try:
        return from_object(kind, dict(line))
    except LocretError as error:
        raise LocretError(f"prediction {line.get('uid')}: {error}: remove the file it is in") from error


def judge(task: str, lines: Sequence[Line]) -> Judged:
    """Score a cell.

    A benchmark's score is its own scorer's; three of them (L-Eval's topics) are parts of their mean.

    Args:
        task: as `locret eval --tasks` takes it.
        lines: its predictions.

    Raises:
        LocretError: there are none, or one lacks a field.
    """
    if not lines:
        raise LocretError(f"there is no prediction of {task} to score: the data may hold no example of it")
    columns = columns_of(task, lines)
    if kind_of(task) in LINE_BY_LINE:
        return Judged(float(columns.mean()), columns, mean, {})
    benchmark = benchmark_task(task)
    together: Together = benchmark.together if isinstance(benchmark, Divided) else mean
    score = np.atleast_1d(benchmark.score(lines))
    parts = {name: float(part) for name, part in details(benchmark, lines).items() if name != "samples"}
    if len(score) > 1:
        parts |= {f"part{number}": float(part) for number, part in enumerate(score, start=1)}
    return Judged(float(score.mean()), columns, together, parts)


def columns_of(task: str, lines: Sequence[Line]) -> NDArray[np.float64]:
    """[lines, parts]: what each line counts to each part of the score, per cent."""
    if kind_of(task) in LINE_BY_LINE:
        return np.array([[100 * told(Scored, line).score] for line in lines])
    return _columns(benchmark_task(task), lines)


def _columns(task: BenchmarkTask, lines: Sequence[Line]) -> NDArray[np.float64]:
    if isinstance(task, Divided):
        return task.columns(lines)
    return np.array([np.atleast_1d(task.score([line])) for line in lines], dtype=float)
