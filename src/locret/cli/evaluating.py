"""What `locret eval` does, in plain values that another process can be given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from locret.cli.common import quiet_libraries
from locret.cli.loading import check_compared, load
from locret.cli.watching import BarWatch
from locret.eval.frame import frame_of
from locret.eval.grid import Grid
from locret.eval.haystack import Filler
from locret.eval.planning import Shard, plan
from locret.eval.quizzes.data import Data
from locret.eval.quizzes.files import Files, described
from locret.eval.quizzes.maker import QuizMaker
from locret.eval.results import ResultFile, Row
from locret.eval.runner import Reader, Watch, run_cells
from locret.eval.subject import subject_of
from locret.eval.workers import Evaluation, Silent, run_workers
from locret.models.checkpoint import load_tokenizer


@dataclass(frozen=True, slots=True)
class Job:
    """An evaluation as the user describes it; names and paths only."""

    model: str
    heads: str | None
    policies: tuple[str, ...]
    grid: Grid
    filler: Path | None
    data: Data
    dtype: str
    device: str
    shard: Shard

    def check(self) -> list[str]:
        """Refuse unknown methods, contradictions, missing files or chat templates, before any weights are read.

        Returns:
            What is wrong with lines of original files that will be left out.

        Raises:
            LocretError: naming them, with the reason.
        """
        check_compared(self.policies, self.grid.sizes())
        if self.grid.chat:
            frame_of(load_tokenizer(self.model), chat=True)
        files = Files(self.data)
        for task in self.grid.tasks:
            files.extent(task, 1, 1)
        return files.skipped.reasons

    def build(self, watch: Watch, files: Files) -> Evaluation:
        """Load everything, and plan.

        Raises:
            LocretError: something cannot be loaded, or does not fit the model.
        """
        haystack = Filler.from_file(self.filler) if self.filler else Filler.python_reference()
        loaded = load(self.model, self.heads, self.dtype, self.device)
        compared = {name: loaded.compared(name) for name in self.policies}
        reader = Reader(loaded.model, loaded.tokenizer, compared, haystack, watch, files)
        subject = subject_of(
            loaded.model,
            loaded.heads,
            model_name=self.model,
            heads_name=self.heads or "",
            filler=described(self.filler) if self.filler else "python_reference",
        )
        return Evaluation(reader, subject, self.shard.of(plan(loaded.model.config, self.grid, compared, files)))

    def quizzes(self) -> QuizMaker:
        """The documents and questions without the model; of that, only the tokenizer is read."""
        haystack = Filler.from_file(self.filler) if self.filler else Filler.python_reference()
        return QuizMaker(load_tokenizer(self.model), haystack, Files(self.data))


def evaluate(job: Job, results: ResultFile | None, workers: int, notes: Console) -> list[Row]:
    """Evaluate all cells of a job, here or in several processes; progress goes to `notes`.

    Raises:
        LocretError: something is missing or does not fit.
    """
    with BarWatch(notes) as watch:
        if workers > 1:
            return run_workers(partial(_in_worker, job), workers, watch, results, watch.expect)
        evaluation = job.build(watch, Files(job.data))
        watch.expect(evaluation.planned)
        return run_cells(evaluation.reader, evaluation.planned, evaluation.subject, results)


def _in_worker(job: Job) -> Evaluation:
    """The job in a process of its own, which tells nobody of its progress."""
    quiet_libraries()
    return job.build(Silent(), Files(job.data))
