"""The files that users name as a task's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from locret.errors import LocretError
from locret.eval.quizzes.names import kind_of


@dataclass(frozen=True, slots=True)
class Data:
    """Files, folders or hub ids.

    Attributes:
        everywhere: for all tasks that need data.
        by_task: for one task each, before the other.
        essay: text of RULER's essays; None takes the Python language reference.
        skip_damaged: whether damaged lines of original files are left out; otherwise the first one ends the run.
    """

    everywhere: str | None = None
    by_task: Mapping[str, str] = field(default_factory=dict)
    essay: str | None = None
    skip_damaged: bool = False

    def path(self, task: str) -> str | None:
        """What was named for a task, if anything was."""
        return self.by_task.get(task, self.everywhere)


def parse_data(given: Sequence[str], essay: str | None = None, skip_damaged: bool = False) -> Data:
    """Data as the user writes it: `PATH` for all tasks, or `TASK=PATH`.

    Raises:
        LocretError: two paths for the same, or an unknown task.
    """
    by_task: dict[str, str] = {}
    everywhere: list[str] = []
    for text in given:
        task, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            everywhere.append(text)
            continue
        kind_of(task)
        if task in by_task:
            raise LocretError(f"--data names two files for {task}: {by_task[task]} and {path}: give one")
        by_task[task] = path
    if len(everywhere) > 1:
        raise LocretError(f"--data names {' and '.join(everywhere)} for all tasks: give one, others as TASK=PATH")
    return Data(everywhere[0] if everywhere else None, by_task, essay, skip_damaged)
