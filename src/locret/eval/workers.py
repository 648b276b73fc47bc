"""Several processes share the cells of a run; Ray starts them and hands out the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.predictions import open_predictions
from locret.eval.quizzes.contract import Passage
from locret.eval.reading import Read
from locret.eval.results import ResultFile, Row, Subject
from locret.eval.runner import Reader, Watch


@dataclass(frozen=True)
class Evaluation:
    """A reader with the cells it may be asked for."""

    reader: Reader
    subject: Subject
    planned: Sequence[Cell]


class Silent:
    """Is told how a run goes on, and tells nobody: see `runner.Watch`."""

    def begin(self, cell: Cell, tokens: int) -> None:
        """Not shown."""

    def advance(self, tokens: int) -> None:
        """Not shown."""

    def answered(self, cell: Cell, passage: Passage, session: Read, right: Mapping[int, float]) -> None:
        """Not shown."""

    def end(self, row: Row, resumed: bool) -> None:
        """Not shown."""


class Worker:
    """One process with a model of its own.

    Args:
        build: loads it; called in the worker's process, when it is first needed.
        folder: for predictions; None keeps none.
    """

    def __init__(self, build: Callable[[], Evaluation], folder: Path | None) -> None:
        self.build, self.folder = build, folder

    @cached_property
    def evaluation(self) -> Evaluation:
        """The loaded model."""
        return self.build()

    def plan(self) -> tuple[list[Cell], Subject]:
        """All cells, and what their rows say was evaluated."""
        return list(self.evaluation.planned), self.evaluation.subject

    def evaluate(self, cell: Cell) -> Row:
        """Read, ask and score."""
        subject = self.evaluation.subject
        predictions = open_predictions(self.folder, cell, subject) if self.folder else None
        return Row(cell, self.evaluation.reader.evaluate(cell, predictions), subject)


def load_ray() -> Any:
    """Ray, told not to report its use.

    Raises:
        LocretError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise LocretError(
            "--workers needs Ray: pip install 'locret[ray]', or start processes by hand, with --shard 0/2 and 1/2"
        ) from error
    return ray


def run_workers(
    build: Callable[[], Evaluation],
    workers: int,
    watch: Watch,
    results: ResultFile | None = None,
    expect: Callable[[Sequence[Cell]], None] = lambda planned: None,
) -> list[Row]:
    """Evaluate all cells in several processes of this machine.

    GPUs are shared out evenly, and processor cores likewise.

    Args:
        build: loads a worker's model and plans; it must be importable in another process.
        workers: how many.
        watch: told of finished cells.
        results: where rows are put as they come; cells that are there already are not evaluated again.
        expect: told the cells.

    Returns:
        The rows, in the order of the plan.

    Raises:
        LocretError: Ray is not installed, or a worker failed.
    """
    ray = load_ray()
    cores = max(os.cpu_count() or 1, workers)
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        share = ray.cluster_resources().get("GPU", 0) / workers
        actor = ray.remote(num_cpus=cores // workers, num_gpus=min(1, share))(Worker)
        pool = [actor.remote(build, results.folder if results else None) for _ in range(workers)]
        planned, subject = ray.get(pool[0].plan.remote())
        if results:
            results.make()
        expect(planned)
        rows = {cell: row for cell in planned if results and (row := results.find(cell, subject))}
        for row in rows.values():
            watch.end(row, True)
        left = [cell for cell in planned if cell not in rows]
        for row in ray.util.ActorPool(pool).map_unordered(lambda one, cell: one.evaluate.remote(cell), left):
            rows[row.cell] = row
            if results:
                results.append(row)
            watch.end(row, False)
        return [rows[cell] for cell in planned]
    except LocretError as error:  # Ray's own error, made of the worker's, tells the whole traceback
        raise LocretError(str(getattr(error, "cause", error))) from error
    finally:
        ray.shutdown()
