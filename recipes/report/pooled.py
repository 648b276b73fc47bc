"""Answers of all seeds together: scores with intervals, and paired differences between two methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locret.eval.intervals import ENDS, bootstrap, drawn_means
from locret.eval.predictions import read_predictions
from locret.eval.results import Row

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Setting:
    """What methods are compared at."""

    task: str
    length: int
    budget: int


@dataclass(frozen=True)
class Pooled:
    """A method at a setting, the answers of all seeds together.

    Attributes:
        method: as in the rows.
        setting: where.
        lines: a prediction line a question, by (seed, uid); documents are (seed, number).
        kv_bytes: held after reading, the largest.
        prefill_seconds, decode_seconds: of a document, of a question; means over the seeds.
    """

    method: str
    setting: Setting
    lines: dict[tuple[int, str], Line]
    kv_bytes: int
    prefill_seconds: float
    decode_seconds: float

    @property
    def documents(self) -> list[tuple[int, int]]:
        """The document of each line."""
        return [(seed, line["document"]) for (seed, _), line in self.lines.items()]

    @property
    def scores(self) -> list[float]:
        """Of each line, 0 to 1."""
        return [line["score"] for line in self.lines.values()]

    def score(self) -> tuple[float, float, float]:
        """Per cent, with the ends of its 95 % interval (bootstrap of documents)."""
        columns = 100 * np.array(self.scores)[:, None]
        low, high = bootstrap(columns, self.documents, lambda parts: parts[..., 0])
        return float(columns.mean()), low, high

    def ahead_of(self, other: Pooled) -> tuple[float, float, float]:
        """By how many points it is better over the same questions, with the ends of the 95 % interval.

        Both methods have read the same documents. These are drawn again with all their questions, and questions are
        drawn again whatever their document; the interval covers both. Among few documents the first alone is too
        narrow: a single one has no spread, and three of four with one more right answer each would never be none.
        """
        differences = np.array(
            [[100 * (line["score"] - other.lines[key]["score"])] for key, line in self.lines.items()]
        )
        ends = [np.percentile(drawn_means(differences, groups), ENDS) for groups in (self.documents, list(self.lines))]
        low, high = np.min(ends), np.max(ends)
        return float(differences.mean()), float(low), float(high)


def pooled(rows: Sequence[Row], folder: Path) -> list[Pooled]:
    """Rows that differ in nothing but the seed, put together, in the order in which they first come.

    Args:
        rows: of one part of the report.
        folder: with their predictions.
    """
    groups: dict[tuple[str, Setting], list[Row]] = {}
    for row in rows:
        setting = Setting(row.cell.task, row.cell.length, row.cell.budget.size)
        groups.setdefault((row.cell.policy, setting), []).append(row)
    return [_pool(method, setting, own, folder) for (method, setting), own in groups.items()]


def _pool(method: str, setting: Setting, rows: Sequence[Row], folder: Path) -> Pooled:
    lines = {(row.cell.seed, line["uid"]): line for row in rows for line in read_predictions(folder, row)}
    return Pooled(
        method,
        setting,
        lines,
        max(row.measures.kv_bytes for row in rows),
        float(np.mean([row.measures.prefill_seconds for row in rows])),
        float(np.mean([row.measures.decode_seconds for row in rows])),
    )
