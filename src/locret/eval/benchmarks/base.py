"""The contract of a benchmark's task, and the register of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import Damaged, Record, stop
from locret.registry import Registry


@dataclass(frozen=True, slots=True)
class Example:
    """One question of a benchmark.

    The prompt is `before + document + question + answer_prefix`; it is kept in parts, so that a document that several
    questions share is read once, and so that truncation cuts the document and never the question.

    Attributes:
        uid: what it is called in its task, the same in every run.
        before: instructions that stand before the document.
        document: the long text.
        question: what follows the document.
        label: the right answer, as the original file has it (JSON).
        answer_prefix: beginning of the answer that the model is given.
        extra: other fields that the prediction file repeats.
        second: another question whose answer goes into the same line of the prediction file.
        joint: how the two answers are put together; `{first}` and `{second}` are open.
    """

    uid: str
    before: str
    document: str
    question: str
    label: Any
    answer_prefix: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    second: Example | None = None
    joint: str = "{first} {second}"

    @property
    def prompt(self) -> str:
        """The whole prompt."""
        return self.before + self.document + self.question + self.answer_prefix


class BenchmarkTask(Protocol):
    """Reads a benchmark's original files, and scores predictions as its authors do."""

    @property
    def benchmark(self) -> str:
        """Which benchmark it is of: `infinitebench`, `leval` or `ruler`."""
        ...

    @property
    def name(self) -> str:
        """The task's own name, which is also the stem of its files."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Tokens of an answer at most."""
        ...

    def load(self, path: Path, damaged: Damaged = stop) -> Iterator[Example]:
        """The examples of an original file (JSON lines, plain or .gz); `damaged` is told of lines that are none."""
        ...

    def prediction(self, example: Example, text: str) -> dict[str, Any]:
        """The line of a prediction file, in the original format."""
        ...

    def check(self, record: Record) -> None:
        """Make sure that `score` can take a line of a prediction file.

        Raises:
            LocretError: saying where it stands and what it lacks.
        """
        ...

    def score(self, predictions: Sequence[Mapping[str, Any]]) -> float | list[float]:
        """Score of a prediction file's lines, 0 to 100, as the original scorer gives it."""
        ...


@runtime_checkable
class Detailed(Protocol):
    """A task whose score has parts that are worth reporting."""

    def details(self, predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The parts by name, and `samples` where not every line is scored."""
        ...


@runtime_checkable
class Divided(Protocol):
    """A task whose score is not simply the mean of its lines' scores."""

    def columns(self, predictions: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """[lines, parts]: what each line counts to each part of the score, per cent; NaN where it does not."""
        ...

    def together(self, means: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., parts] -> [...]: the score that the means of the parts make."""
        ...


def answer(example: Example, ask: Callable[[Example], str]) -> str:
    """What `BenchmarkTask.prediction` takes as the text: the answer of `ask`, with that to the second question."""
    first = ask(example)
    if example.second is None:
        return first
    return example.joint.format(first=first, second=ask(example.second))


def details(task: BenchmarkTask, predictions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Number of `samples` that were scored, and the parts of the score where the task has some."""
    parts = task.details(predictions) if isinstance(task, Detailed) else {}
    return {"samples": len(predictions), **parts}


AnyTask = TypeVar("AnyTask", bound=BenchmarkTask)
_tasks: Registry[BenchmarkTask] = Registry("benchmark task")


def register_benchmark_task(task: AnyTask) -> AnyTask:
    """Put a task into the register, under `benchmark/name`."""
    _tasks.register(f"{task.benchmark}/{task.name}")(task)
    return task


def list_benchmark_tasks(benchmark: str | None = None) -> list[str]:
    """Names `benchmark/task` of all tasks, or those of one benchmark."""
    return [name for name in _tasks.names() if benchmark is None or name.startswith(f"{benchmark}/")]


def get_benchmark_task(benchmark: str, name: str) -> BenchmarkTask:
    """A task by its benchmark and name.

    Raises:
        LocretError: there is no such benchmark, or it has no such task; the message lists what there is.
    """
    own = [known.partition("/")[2] for known in list_benchmark_tasks(benchmark)]
    if not own:
        benchmarks = sorted({known.partition("/")[0] for known in list_benchmark_tasks()})
        raise LocretError(f"unknown benchmark {benchmark!r}: choose one of {', '.join(benchmarks)}")
    if name not in own:
        raise LocretError(f"{benchmark} has no task {name!r}: choose one of {', '.join(own)}")
    return _tasks.get(f"{benchmark}/{name}")
