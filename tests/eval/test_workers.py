"""Several processes, with a stand-in for Ray: its public calls, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.planning import plan
from locret.eval.results import ResultFile, Row
from locret.eval.runner import run_cells
from locret.eval.workers import Evaluation, load_ray, run_workers
from tests.eval.oracle import CONFIG, SUBJECT, Oracle, grid, oracle_reader
from tests.eval.test_benchmark_runs import without_seconds
from tests.eval.test_runner import Watched

WANTED = grid("magic", "math_find", lengths=(600, 700), samples=2)
POLICIES = {"x": Oracle({"magic": " 1"}), "y": Oracle()}


def build(log: list[str]) -> Evaluation:
    log.append("built")
    reader = oracle_reader(POLICIES)
    return Evaluation(reader, SUBJECT, plan(CONFIG, WANTED, POLICIES, reader.files))


class FakeRay:
    """Actors are plain objects, references are calls that have not been made, and the last one is ready first."""

    def __init__(self, gpus: float = 0) -> None:
        self.gpus, self.options, self.down, self.actors = gpus, {}, False, 0  # type: ignore[var-annotated]
        self.util = SimpleNamespace(ActorPool=FakePool)

    def init(self, **options: Any) -> None:
        self.options.update(options)

    def cluster_resources(self) -> dict[str, float]:
        return {"GPU": self.gpus} if self.gpus else {}

    def remote(self, **options: Any) -> Callable[[type], Any]:
        self.options.update(options)

        def wrap(kind: type) -> Any:
            def make(*arguments: Any) -> Any:
                self.actors += 1
                return FakeActor(kind(*arguments))

            return SimpleNamespace(remote=make)

        return wrap

    def get(self, reference: Callable[[], Any]) -> Any:
        return reference()

    def shutdown(self) -> None:
        self.down = True


class FakeActor:
    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: partial(getattr(self.actor, name), *arguments))


class FakePool:
    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = actors

    def map_unordered(self, call: Callable[[Any, Any], Any], values: Sequence[Any]) -> Iterator[Any]:
        for number, value in reversed(list(enumerate(values))):
            yield call(self.actors[number % len(self.actors)], value)()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay(gpus=1)
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    return fake


def test_workers_make_the_rows_of_one_process(ray: FakeRay, tmp_path: Path) -> None:
    log: list[str] = []
    expected: list[Sequence[Cell]] = []
    watch = Watched()
    rows = run_workers(partial(build, log), 3, watch, ResultFile(tmp_path / "many"), expected.append)
    alone = build(log)
    run_cells(alone.reader, alone.planned, SUBJECT, ResultFile(tmp_path / "one"))
    assert [row.cell for row in rows] == list(alone.planned) == expected[0]
    assert watch.resumed == [False] * 8
    got, wanted = without_seconds(tmp_path / "many"), without_seconds(tmp_path / "one")
    assert got.pop("results.jsonl") == wanted.pop("results.jsonl")[::-1]  # as they were ready
    assert got == wanted
    assert log == ["built"] * 4  # a model for each worker
    assert (ray.actors, ray.down, ray.options["num_gpus"]) == (3, True, pytest.approx(1 / 3))


def test_rows_of_an_earlier_run_are_not_made_again(ray: FakeRay, tmp_path: Path) -> None:
    run_workers(partial(build, []), 2, Watched(), ResultFile(tmp_path))
    before = (tmp_path / "results.jsonl").read_bytes()
    watch = Watched()
    run_workers(partial(build, []), 2, watch, ResultFile(tmp_path))
    assert watch.resumed == [True] * 8
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_what_a_worker_complains_of_is_told_in_one_line(ray: FakeRay) -> None:
    class TaskError(LocretError):  # Ray's is an instance of the cause's class, and its text is a traceback
        cause = LocretError("39 tokens are too few")

    def fail() -> Evaluation:
        raise TaskError("ray::Worker.plan() (pid=7)\n  Traceback ...")

    with pytest.raises(LocretError, match=r"^39 tokens are too few$"):
        run_workers(fail, 2, Watched())
    assert ray.down


def test_without_ray_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LocretError, match=r"--workers needs Ray: pip install 'locret\[ray\]', or .* --shard 0/2"):
        load_ray()


def test_rows_are_rows(ray: FakeRay) -> None:
    assert all(type(row) is Row for row in run_workers(partial(build, []), 2, Watched()))
