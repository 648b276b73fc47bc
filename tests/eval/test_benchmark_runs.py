"""Runs over benchmarks: what is read and asked, and what a run that was stopped goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from locret.eval.benchmarks.base import Example, list_benchmark_tasks
from locret.eval.judging import judge
from locret.eval.merging import merge, recomputed
from locret.eval.planning import Shard, plan
from locret.eval.quizzes.names import benchmark_task
from locret.eval.results import ResultFile, Row
from locret.eval.runner import run_cells, run_grid
from tests.eval.oracle import CONFIG, SUBJECT, Oracle, grid, oracle_reader
from tests.eval.quizzes.conftest import coursera as coursera

KNOWN = {"0.0?": "A", "1.1?": "A", "2.0?": "AB", "1.0?": "B", "magic number": " 0"}


def without_seconds(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All files of a run, but for times."""
    return {
        str(path.relative_to(folder)): [
            {name: value for name, value in json.loads(line).items() if "seconds" not in name}
            for line in path.read_text().splitlines()
        ]
        for path in sorted(folder.rglob("*.jsonl"))
    }


def test_scores_are_those_of_the_benchmark(coursera: Path, tmp_path: Path) -> None:
    oracle = Oracle(KNOWN)
    reader = oracle_reader({"x": oracle}, coursera)
    [row] = run_grid(reader, grid("leval/coursera", samples=100), SUBJECT, ResultFile(tmp_path / "out"))
    assert (row.measures.score, row.cell.samples) == (pytest.approx(100 * 2 / 6, abs=0.01), 6)
    assert row.measures.low <= row.measures.score <= row.measures.high
    [path] = (tmp_path / "out" / "predictions").glob("x__64__1000__*/leval-coursera.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert benchmark_task("leval/coursera").score(lines) == pytest.approx(row.measures.score, abs=0.01)
    assert [line["document"] for line in lines] == [0, 0, 0, 1, 1, 2]
    assert len(oracle.read_texts) == 3  # once a document
    assert set(oracle.limits) == {512}


def test_answers_are_capped(coursera: Path) -> None:
    oracle = Oracle()
    run_grid(oracle_reader({"x": oracle}, coursera), grid("leval/coursera", max_new_tokens=7), SUBJECT)
    assert set(oracle.limits) == {7}


@pytest.mark.parametrize("query_first", [False, True])
@pytest.mark.parametrize("asked", [0, 1, 4, 7])
def test_a_stopped_run_goes_on_after_the_last_answer(
    coursera: Path, tmp_path: Path, asked: int, query_first: bool
) -> None:
    def run(folder: str, oracle: Oracle) -> list[Row]:
        wanted = grid("leval/coursera", "magic", samples=5, keys=2, query_first=query_first)
        return run_grid(oracle_reader({"x": oracle}, coursera), wanted, SUBJECT, ResultFile(tmp_path / folder))

    whole, first, second = Oracle(KNOWN), Oracle(KNOWN, dies_after=asked), Oracle(KNOWN)
    rows = run("whole", whole)
    with pytest.raises(KeyboardInterrupt):
        run("stopped", first)
    assert [(r.cell, r.measures.score, r.measures.low) for r in run("stopped", second)] == [
        (r.cell, r.measures.score, r.measures.low) for r in rows
    ]
    assert first.asked + second.asked == whole.asked
    assert without_seconds(tmp_path / "stopped") == without_seconds(tmp_path / "whole")


def test_shards_together_are_the_whole(coursera: Path, tmp_path: Path) -> None:
    oracles = {"x": Oracle(KNOWN), "y": Oracle()}
    reader = oracle_reader(oracles, coursera)
    wanted = grid("leval/coursera", "magic", "vt", lengths=(1400,), samples=3)
    planned = plan(CONFIG, wanted, oracles, reader.files)
    whole = run_cells(reader, planned, SUBJECT, ResultFile(tmp_path / "whole"))
    folders = [tmp_path / f"shard{index}" for index in range(3)]
    for index, folder in enumerate(folders):
        run_cells(reader, Shard(index, 3).of(planned), SUBJECT, ResultFile(folder))
    merged = merge(folders, tmp_path / "merged")
    assert {row.cell for row in merged} == {row.cell for row in whole}
    got, expected = without_seconds(tmp_path / "merged"), without_seconds(tmp_path / "whole")
    for files in (got, expected):
        files["results.jsonl"].sort(key=str)
    assert got == expected
    before = (tmp_path / "merged" / "results.jsonl").read_bytes()
    assert len(merge(folders, tmp_path / "merged")) == len(whole)
    assert (tmp_path / "merged" / "results.jsonl").read_bytes() == before


def test_rows_come_out_of_predictions_alone(coursera: Path, tmp_path: Path) -> None:
    reader = oracle_reader({"x": Oracle(KNOWN)}, coursera)
    rows = run_grid(reader, grid("leval/coursera", "magic", "kv_retrieval"), SUBJECT, ResultFile(tmp_path))
    again = recomputed(tmp_path)
    assert sorted(map(str, again)) == sorted(map(str, rows))
    (tmp_path / "results.jsonl").write_text("")  # killed before the rows were written
    assert sorted(map(str, merge([tmp_path], tmp_path / "merged"))) == sorted(map(str, rows))


def test_an_unfinished_cell_makes_no_row(coursera: Path, tmp_path: Path) -> None:
    reader = oracle_reader({"x": Oracle(dies_after=2)}, coursera)
    with pytest.raises(KeyboardInterrupt):
        run_grid(reader, grid("leval/coursera"), SUBJECT, ResultFile(tmp_path))
    assert recomputed(tmp_path) == []


def test_depths_are_written_down(tmp_path: Path) -> None:
    reader = oracle_reader({"x": Oracle()})
    wanted = grid("mix", "kv_retrieval", "math_find", "niah_single_1", lengths=(2000,))
    rows = run_grid(reader, wanted, SUBJECT, ResultFile(tmp_path))
    for row in rows:
        [path] = tmp_path.rglob(f"{row.cell.task}.jsonl")
        depths = [json.loads(line)["depth"] for line in path.read_text().splitlines()]
        if row.cell.task == "math_find":
            assert depths == [None] * 4
        else:
            assert all(0 <= depth < 1 for depth in depths)
            assert len(set(depths)) == 4


def test_notes_of_ours_never_take_the_place_of_a_benchmarks_field() -> None:
    ours = {"uid", "score", "document", "depth", "kv_bytes", "prefill_seconds", "decode_seconds"}
    extra = {"query": "", "evaluation": "exam", "index": 0, "length": 1, "id": 0}
    example = Example("0", "", "", "", ["x"], extra=extra)
    for name in list_benchmark_tasks():
        assert not ours & benchmark_task(name).prediction(example, "x").keys()
    assert not any("_pred" in field for field in ours)  # how L-Eval finds the answers


def test_scores_of_lines_are_their_part_of_the_whole(tmp_path: Path) -> None:
    reader = oracle_reader({"x": Oracle({"chain(s)": "ABCDE"})})
    [row] = run_grid(reader, grid("vt", lengths=(1400,), samples=3), SUBJECT, ResultFile(tmp_path))
    [path] = tmp_path.rglob("vt.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [100 * line["score"] for line in lines] == pytest.approx(judge("vt", lines).columns.ravel())
    assert row.cell.samples == len(lines) == 3
