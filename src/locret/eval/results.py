"""Results: one row a cell, appended to a file as soon as it is known."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.reading import CHUNKED


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated, so that rows of another model or haystack are never taken for this one's.

    Attributes:
        model: name, folder or hub id.
        heads: folder or hub id of the retaining heads, "" for those that come with the model.
        weights: a digest of the weights of model and heads.
        dtype: what the model computes in.
        filler: name of the haystack.
    """

    model: str
    heads: str
    weights: str
    dtype: str
    filler: str


@dataclass(frozen=True, slots=True)
class Measures:
    """What came out of a cell.

    Attributes:
        score: per cent of the questions answered right.
        low, high: 95 % interval of the score, per cent.
        kv_bytes: bytes of keys and values after reading a document, the largest of them.
        prefill_seconds: seconds to read a document, the mean.
        decode_seconds: seconds to read a question and answer it, the mean.
    """

    score: float
    low: float
    high: float
    kv_bytes: int
    prefill_seconds: float
    decode_seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """A finished cell."""

    cell: Cell
    measures: Measures
    subject: Subject

    def as_json(self) -> dict[str, Any]:
        """One flat object: settings, measures, subject."""
        return {**self.cell.as_json(), **asdict(self.measures), **asdict(self.subject)}


class ResultFile:
    """Rows as JSON lines. A run that is started again finds the rows it has written before.

    Args:
        folder: where `results.jsonl` is, or will be.

    Raises:
        LocretError: a line other than the last is not a JSON object.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "results.jsonl"
        self._rows = self._read() if self.path.exists() else []

    def find(self, cell: Cell, subject: Subject) -> Row | None:
        """The row of this very cell, if it is in the file; the last one where there are several."""
        wanted = {**cell.as_json(), **asdict(subject)}
        for row in reversed(self._rows):
            if wanted.items() <= row.items() and all(name in row for name in Measures.__slots__):
                return Row(cell, Measures(**{name: row[name] for name in Measures.__slots__}), subject)
        return None

    def append(self, row: Row) -> None:
        """Add a row; it is on the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.as_json()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows.append(row.as_json())

    def _read(self) -> list[dict[str, Any]]:
        """All whole rows; half a line at the end, left by a run that was killed, is cut off the file."""
        data = self.path.read_bytes()
        whole, _, half = data.rpartition(b"\n")
        if half:
            os.truncate(self.path, len(data) - len(half))
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                rows.append({"prefill": CHUNKED, **json.loads(line)})  # older rows do not say it
            except (ValueError, TypeError):
                raise LocretError(
                    f"{self.path}, line {number} is not a JSON object: remove the line, or choose another folder"
                ) from None
        return rows
