"""The results of several folders put together: the shards of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.measures import measures_of
from locret.eval.predictions import (
    cell_predictions,
    cells_with_predictions,
    open_predictions,
    prediction_path,
    read_predictions,
)
from locret.eval.results import RESULTS, Measures, ResultFile, Row


def merge(folders: Sequence[Path], out: Path) -> list[Row]:
    """Add the rows and predictions of other folders to those of `out`; what is there already stays.

    A cell that has all its predictions and no row, as its run was killed in between, gets its row here.

    Args:
        folders: of shards.
        out: where to; it may be new.

    Returns:
        All rows of `out`.

    Raises:
        LocretError: one of the folders has no results, or a file of it is damaged.
    """
    for folder in folders:
        if not (folder / RESULTS).is_file():
            raise LocretError(f"{folder} has no {RESULTS}: give folders that `locret eval --out` has written")
    found = [(folder, row) for folder in folders for row in (*ResultFile(folder).rows(), *recomputed(folder))]
    results = ResultFile(out)
    results.make()
    for folder, row in found:
        if results.find(row.cell, row.subject) is None:
            _copy_predictions(folder, out, row)
            results.append(row)
    return results.rows()


def recomputed(folder: Path) -> list[Row]:
    """The rows that the predictions in a folder make, without a model; cells that were not finished make none.

    Raises:
        LocretError: a file is damaged.
    """
    rows = []
    for cell, subject in cells_with_predictions(folder):
        lines = cell_predictions(folder, cell, subject)
        if len(lines) == cell.samples:
            rows.append(Row(cell, _measures(prediction_path(folder, cell, subject), cell.task, lines), subject))
    return rows


def _measures(path: Path, task: str, lines: Sequence[Mapping[str, Any]]) -> Measures:
    try:
        return measures_of(task, lines)
    except LocretError as error:
        raise LocretError(f"{path}, {error}") from error


def _copy_predictions(folder: Path, out: Path, row: Row) -> None:
    lines = read_predictions(folder, row)
    if lines:  # rows of earlier versions have none
        copy = open_predictions(out, row.cell, row.subject)
        for line in lines[len(copy.lines) :]:
            copy.append(line)
