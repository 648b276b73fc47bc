"""The names that `locret eval --tasks` takes, and what stands behind each."""

from __future__ import annotations

import difflib
from enum import Enum

from locret.errors import LocretError
from locret.eval.benchmarks.base import BenchmarkTask
from locret.eval.benchmarks.catalogue import get_benchmark_task, list_benchmark_tasks
from locret.eval.benchmarks.infinitebench_generate import list_generators
from locret.eval.fidelity.continuations import NAMES as FORCED
from locret.eval.ruler.tasks import BENCHMARK as RULER
from locret.eval.ruler.tasks import list_ruler_tasks
from locret.eval.tasks import get_task, list_tasks

INFINITEBENCH = "infinitebench"
SIMILAR = 3  # names that are suggested for one that does not exist


class Kind(Enum):
    """Where the documents of a task come from."""

    TEMPLATE = "a template of needles"
    GENERATED = "InfiniteBench's generators"
    RULER = "RULER's generators"
    FILE = "original files"
    FORCED = "true continuations, forced on documents that are made here"


def list_generated() -> list[str]:
    """InfiniteBench's synthetic tasks that are made here; its pass key is a template of ours."""
    return [name for name in list_generators() if name not in list_tasks()]


def kind_of(name: str) -> Kind:
    """What stands behind a task's name.

    Raises:
        LocretError: there is no such task; the message lists all groups, and the names that are nearest.
    """
    if "/" in name:
        get_benchmark_task(*name.split("/", 1))  # says what there is if this is not
        return Kind.FILE
    groups = {Kind.TEMPLATE: list_tasks(), Kind.GENERATED: list_generated(), Kind.RULER: list_ruler_tasks()}
    groups[Kind.FORCED] = list(FORCED)
    found = [kind for kind, names in groups.items() if name in names]
    if not found:
        listed = "; ".join(", ".join(names) for names in groups.values())
        raise LocretError(
            f"unknown task {name!r}: choose one of {listed}; or BENCHMARK/TASK of original files, such as "
            f"leval/coursera{_nearest(name)}"
        )
    return found[0]


def benchmark_task(name: str) -> BenchmarkTask:
    """The task that reads and scores: for a name of any kind but a template's."""
    made_here = {Kind.GENERATED: f"{INFINITEBENCH}/{name}", Kind.RULER: f"{RULER}/{name}"}
    return get_benchmark_task(*made_here.get(kind_of(name), name).split("/", 1))


def keys_of(name: str) -> int:
    """Questions a document, where the documents are made here from templates; else 1, as nobody can choose."""
    return get_task(name).keys if kind_of(name) is Kind.TEMPLATE else 1


def _nearest(name: str) -> str:
    known = [*list_tasks(), *list_generated(), *list_ruler_tasks(), *FORCED, *list_benchmark_tasks()]
    by_tail = {known_name.rpartition("/")[2]: known_name for known_name in reversed(known)}
    near = [by_tail[tail] for tail in difflib.get_close_matches(name, by_tail, SIMILAR)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""
