from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.kvpress_output import COLUMNS, write_kvpress
from locret.eval.results import ResultFile, Row
from locret.eval.runner import run_grid
from tests.eval.oracle import SUBJECT, Oracle, grid, oracle_reader

ASKED = "What are all the special magic"


def run(results: Path, **settings: Any) -> tuple[list[Row], Any]:
    reader = oracle_reader({"x": Oracle({"variables": "ABCDE", "magic": "1"})})
    wanted = grid("vt", "niah_single_1", "mix", **{"lengths": (1500,), "samples": 3, **settings})
    return run_grid(reader, wanted, SUBJECT, ResultFile(results)), reader.quizzes


def test_a_folder_a_benchmark(tmp_path: Path) -> None:
    rows, quizzes = run(tmp_path / "results")
    folders = write_kvpress(tmp_path / "out", rows, quizzes, tmp_path / "results")
    assert [folder.name for folder in folders] == [
        "ruler__1500__tiny__x__0.96__budget64__seed0", "locret__1500__tiny__x__0.96__budget64__seed0",
    ]  # fmt: skip
    assert all({file.name for file in folder.iterdir()} == {
        "predictions.csv", "metrics.json", "config.yaml",
    } for folder in folders)  # fmt: skip
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    assert metrics == {row.cell.task: {"string_match": row.measures.score} for row in rows[:2]}


def test_predictions_are_a_table(tmp_path: Path) -> None:
    rows, quizzes = run(tmp_path / "results")
    [ruler, _] = write_kvpress(tmp_path / "out", rows, quizzes, tmp_path / "results")
    with (ruler / "predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [record["task"] for record in table] == ["vt"] * 3 + ["niah_single_1"] * 3
    assert table[0].keys() == set(COLUMNS)
    first = table[0]
    assert (first["predicted_answer"], first["max_new_tokens"]) == ("ABCDE", "30")
    assert first["context"].startswith("Memorize and track")
    assert first["question"].startswith("\nQuestion: Find all variables")
    assert first["answer_prefix"].startswith(" Answer: According to")
    assert len(eval(first["answer"])) == 5


def test_the_configuration_is_yaml(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    rows, quizzes = run(tmp_path / "results", query_first=True, samples=1, seeds=(3,))
    folders = write_kvpress(tmp_path / "out", rows, quizzes, tmp_path / "results")
    assert folders[0].name.endswith("__seed3__query_first")
    config = yaml.safe_load((folders[0] / "config.yaml").read_text())
    assert config["dataset"] == "ruler"
    assert (config["press_name"], config["compression_ratio"]) == ("x", pytest.approx(1 - 64 / 1500, abs=1e-3))
    assert (config["compress_questions"], config["seed"], config["device"]) == (True, 3, None)


def test_rows_without_predictions_are_refused(tmp_path: Path) -> None:
    rows, quizzes = run(tmp_path / "results", samples=1)
    with pytest.raises(LocretError, match="has a row but no predictions of x, vt"):
        write_kvpress(tmp_path / "out", rows, quizzes, tmp_path / "elsewhere")
    assert not (tmp_path / "out").exists()
