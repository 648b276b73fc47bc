"""Damaged lines: the first one stops a run, or all are skipped and told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.base import BenchmarkTask, Example
from locret.eval.benchmarks.jsonl import Damaged, Record, read_jsonl


@dataclass
class Skipped:
    """What was wrong with the lines that were skipped; give it where a `Damaged` is taken."""

    reasons: list[str] = field(default_factory=list)

    def __call__(self, error: LocretError) -> None:
        """Remember, and go on."""
        self.reasons.append(str(error))


def examples(
    records: Iterable[Record], make: Callable[[int, Record], Iterable[Example]], damaged: Damaged
) -> Iterator[Example]:
    """The examples of all records that are whole; `make` takes a record's number and the record."""
    for number, record in enumerate(records):
        try:
            made = tuple(make(number, record))
        except LocretError as error:
            damaged(error)
        else:
            yield from made


def predictions(task: BenchmarkTask, path: Path, damaged: Damaged) -> list[Mapping[str, Any]]:
    """The lines of a prediction file that the task can score.

    Raises:
        LocretError: the file cannot be read, or what `damaged` raises, with file and line.
    """
    whole = []
    for record in read_jsonl(path, damaged):
        try:
            task.check(record)
        except LocretError as error:
            damaged(error)
        else:
            whole.append(record.fields)
    return whole
