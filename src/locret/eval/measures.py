"""What came out of a cell, worked out from its predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from locret.eval.intervals import bootstrap, drawn_interval
from locret.eval.judging import judge, told
from locret.eval.quizzes.names import Kind, kind_of
from locret.eval.results import Fidelity, Measures

DIGITS = 6


def measures_of(task: str, lines: Sequence[Mapping[str, Any]]) -> Measures:
    """Score, interval and means of a finished cell.

    Args:
        task: as `locret eval --tasks` takes it.
        lines: its predictions, one a question.

    Raises:
        LocretError: there are none, or one lacks a field.
    """
    judged = judge(task, lines)
    read = [told(Told, line) for line in lines]
    low, high = bootstrap(judged.columns, [one.document for one in read], judged.together)
    prefill: dict[int, list[float]] = {}
    for one in read:  # all questions of a document tell the time of the one reading, unless each had its own
        prefill.setdefault(one.document, []).append(one.prefill_seconds)
    return Measures(
        score=round(judged.score, 2),
        low=round(low, 2),
        high=round(high, 2),
        kv_bytes=max(one.kv_bytes for one in read),
        prefill_seconds=round(fmean(map(fmean, prefill.values())), 4),
        decode_seconds=round(fmean(one.decode_seconds for one in read), 4),
        parts={name: round(part, 2) for name, part in judged.parts.items()},
        offloaded_bytes=max(one.offloaded_bytes for one in read),
        fidelity=_fidelity(lines) if kind_of(task) is Kind.FORCED else None,
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What every line tells of reading its document and of asking: see `results.Measures`."""

    document: int
    kv_bytes: int
    prefill_seconds: float
    decode_seconds: float
    offloaded_bytes: int = 0  # lines of an earlier version do not say


@dataclass(frozen=True, slots=True)
class Forced:
    """What a line of a forced continuation says: means over its measured tokens, see `results.Fidelity`."""

    kl: float
    agreement: float
    nll: float
    full_nll: float


def _fidelity(lines: Sequence[Mapping[str, Any]]) -> Fidelity:
    """Of lines that each have a document of their own."""
    forced = [told(Forced, line) for line in lines]
    figures: dict[str, Any] = {}
    for name, unit in (("kl", 1), ("agreement", 100), ("nll", 1)):
        column = np.array([[unit * getattr(one, name)] for one in forced])
        ends = drawn_interval(column, [line["document"] for line in lines])
        figures[name] = round(float(column.mean()), DIGITS)
        figures[f"{name}_low"], figures[f"{name}_high"] = (None if end is None else round(end, DIGITS) for end in ends)
    return Fidelity(**figures, full_nll=round(fmean(one.full_nll for one in forced), DIGITS))
