"""All benchmarks at one place: importing this module registers their tasks."""

from __future__ import annotations

import re
from pathlib import Path

import locret.eval.benchmarks.infinitebench
import locret.eval.benchmarks.leval
import locret.eval.ruler  # noqa: F401
from locret.errors import LocretError
from locret.eval.benchmarks.base import BenchmarkTask, get_benchmark_task, list_benchmark_tasks

__all__ = ["get_benchmark_task", "list_benchmark_tasks", "task_of_file"]


def task_of_file(benchmark: str, path: Path) -> BenchmarkTask:
    """The task that a file of predictions is named after, such as `preds_passkey.jsonl`.

    Raises:
        LocretError: the name holds no task of the benchmark, or several.
    """
    names = [name.partition("/")[2] for name in list_benchmark_tasks(benchmark)]
    found = [name for name in names if re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", path.name)]
    # `qa` within `longbook_qa_eng` is no second task
    longest = [name for name in found if not any(name != other and name in other for other in found)]
    if names and len(longest) != 1:
        said = "several tasks" if longest else "no task"
        raise LocretError(f"the name {path.name} says {said} of {benchmark}: give --task, one of {', '.join(names)}")
    return get_benchmark_task(benchmark, "".join(longest))
