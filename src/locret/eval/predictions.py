"""Predictions: a line a question, written as the answers come, from which rows of results are worked out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.lines import LineFile
from locret.eval.results import Row, Subject
from locret.files import write_text_whole
from locret.texts import read_json
from locret.typed import as_object, from_object

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


@dataclass(frozen=True, slots=True)
class Named:
    """What every line tells, whatever the task: the question it answers, by which a run goes on."""

    uid: str


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
    return _whole(prediction_path(folder, cell, subject))


def read_predictions(folder: Path, row: Row) -> list[dict[str, Any]]:
    """The lines behind a row of results; none if they were not kept.

    Raises:
        LocretError: a line is damaged.
    """
    return cell_predictions(folder, row.cell, row.subject)


def cell_predictions(folder: Path, cell: Cell, subject: Subject) -> list[dict[str, Any]]:
    """The lines that a folder has of a cell, finished or not.

    Raises:
        LocretError: a line is damaged.
    """
    return _whole(prediction_path(folder, cell, subject)).lines


def cells_with_predictions(folder: Path) -> Iterator[tuple[Cell, Subject]]:
    """All cells that have predictions in a folder of results, finished or not.

    Raises:
        LocretError: the settings of one are damaged.
    """
    for path in sorted((folder / FOLDER).glob(f"*/{SETTINGS}")):
        try:
            flat = as_object(read_json(path))
            found = Cell.from_json(flat), Subject.from_json(flat)
        except LocretError as error:
            raise LocretError(f"{path} does not hold the settings of a cell ({error}): remove its folder") from error
        yield found


def _whole(path: Path) -> LineFile:
    """A file of predictions, if every line names its question."""
    file = LineFile(path)
    for number, line in enumerate(file.lines, start=1):
        try:
            from_object(Named, line)
        except LocretError as error:
            raise LocretError(
                f"{path}, prediction {number}: {error}: remove the file, or choose another folder"
            ) from error
    return file


def _identity(cell: Cell, subject: Subject) -> str:
    return json.dumps({**cell.as_json(), **asdict(subject)}, indent=2)
