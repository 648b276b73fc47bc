"""The files behind tasks: where they are, how much they hold, and what is in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from locret.errors import LocretError
from locret.eval.benchmarks.damaged import Skipped
from locret.eval.benchmarks.jsonl import stop
from locret.eval.benchmarks.source import find_file
from locret.eval.grid import Extent
from locret.eval.quizzes import origins
from locret.eval.quizzes.data import Data
from locret.eval.quizzes.names import Kind, benchmark_task, kind_of
from locret.eval.quizzes.origins import Documents
from locret.eval.ruler import Sources, get_ruler_task
from locret.eval.ruler.qa import QuestionAnswering
from locret.eval.ruler.sources import fetch

DIGEST = 12


class Files:
    """Original files, each read once.

    Args:
        data: what the user names.

    Attributes:
        skipped: what was wrong with lines that were left out, if damaged ones are.
    """

    def __init__(self, data: Data) -> None:
        self.data = data
        self.skipped = Skipped()
        self._read: dict[Path, Documents] = {}

    def extent(self, task: str, length: int, samples: int) -> Extent:
        """How much of a task there is: see `grid.cells`.

        Raises:
            LocretError: a file that the task needs is missing or holds nothing of it.
        """
        kind = kind_of(task)
        if kind is Kind.FILE:
            held = sum(map(len, self.documents(task)))
            return Extent(length, min(samples, held), described(self._path(task)))
        questions = self.sources(task).questions if kind is Kind.RULER else None
        return Extent(length, samples, described(Path(questions)) if questions else "")

    def documents(self, task: str) -> Documents:
        """All examples of a task of original files.

        Raises:
            LocretError: its file is missing, cannot be read, or holds nothing of it.
        """
        path = self._path(task)
        if path not in self._read:
            damaged = self.skipped if self.data.skip_damaged else stop
            self._read[path] = origins.from_file(benchmark_task(task), path, damaged)
        return self._read[path]

    def sources(self, task: str) -> Sources:
        """The texts that a task of RULER's is made of.

        Raises:
            LocretError: the file of its questions is missing, or was not named.
        """
        generator = get_ruler_task(task).generator
        if not isinstance(generator, QuestionAnswering):
            return Sources(self.data.essay)
        named = self.data.path(task)
        if named is None:
            raise LocretError(
                f"{task} needs the file of {generator.title}, which does not ship with locret: get "
                f"{generator.address} and give it as --data {task}=FILE"
            )
        if Path(named).is_dir():
            named = str(Path(named) / Path(generator.address).name)
        return Sources(self.data.essay, str(fetch(named)))

    def _path(self, task: str) -> Path:
        return find_file(benchmark_task(task), self.data.path(task))


def described(path: Path) -> str:
    """Name and digest of a file, so that results of other contents are never taken for its own.

    Raises:
        LocretError: it cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise LocretError(f"cannot read {path}: {error.strerror or error}: give a file that is here") from error
    return f"{path.name} {digest[:DIGEST]}"
