"""Predictions: a line a question, written as the answers come, from which rows of results are worked out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.lines import LineFile
from locret.eval.results import Row, Subject
from locret.files import write_text_whole
from locret.texts import read_json

FOLDER = "predictions"
SETTINGS = "cell.json"


class Predictions(Protocol):
    """The predictions of one cell, in the order in which its questions were answered."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        """A JSON object a question; `uid` names it."""
        ...

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        ...


class Unwritten:
    """Predictions that are kept for as long as a cell takes."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, as it would come back from a file."""
        self.lines.append(json.loads(json.dumps(line)))


def folder_of(folder: Path, cell: Cell, subject: Subject) -> Path:
    """Where the predictions of a cell lie in a folder of results.

    The name says what is told apart most often; a digest of all settings makes it the cell's own.
    """
    digest = hashlib.sha256(_identity(cell, subject).encode()).hexdigest()[:10]
    parts = (cell.policy, cell.budget.size, cell.length, f"seed{cell.seed}", digest)
    return folder / FOLDER / "__".join(re.sub(r"[^\w.-]+", "-", str(part)) for part in parts)


def prediction_path(folder: Path, cell: Cell, subject: Subject) -> Path:
    """The file of a cell's predictions."""
    return folder_of(folder, cell, subject) / f"{cell.task.replace('/', '-')}.jsonl"


def open_predictions(folder: Path, cell: Cell, subject: Subject) -> LineFile:
    """The predictions of a cell, to go on with; its settings are written beside them.

    Raises:
        LocretError: the folder cannot be written, or a line of an earlier run is damaged.
    """
    settings = folder_of(folder, cell, subject) / SETTINGS
    if not settings.exists():
        write_text_whole(settings, _identity(cell, subject) + "\n")
    return LineFile(prediction_path(folder, cell, subject))


def read_predictions(folder: Path, row: Row) -> list[dict[str, Any]]:
    """The lines behind a row of results; none if they were not kept."""
    return LineFile(prediction_path(folder, row.cell, row.subject)).lines


def cells_with_predictions(folder: Path) -> Iterator[tuple[Cell, Subject]]:
    """All cells that have predictions in a folder of results, finished or not.

    Raises:
        LocretError: the settings of one are damaged.
    """
    for path in sorted((folder / FOLDER).glob(f"*/{SETTINGS}")):
        try:
            flat = read_json(path)
            yield Cell.from_json(flat), Subject.from_json(flat)
        except (ValueError, TypeError, KeyError) as error:
            raise LocretError(f"{path} does not hold the settings of a cell: remove its folder") from error


def _identity(cell: Cell, subject: Subject) -> str:
    return json.dumps({**cell.as_json(), **asdict(subject)}, indent=2)
