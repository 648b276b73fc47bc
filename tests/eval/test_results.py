from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from locret.cache.budget import Budget
from locret.errors import LocretError
from locret.eval.grid import Cell
from locret.eval.results import Measures, ResultFile, Row, Subject

CELL = Cell("locret", "mix", 512, Budget(64, 32, 8, 8), samples=16, seed=0, keys=8, split="trained", query_first=False)
SUBJECT = Subject("builtin", "", "0123", "float32", "python_reference")
ROW = Row(CELL, Measures(87.5, 64.0, 96.5, 4096, 0.5, 0.25), SUBJECT)


def test_rows_have_the_fields_that_the_interface_names(tmp_path: Path) -> None:
    ResultFile(tmp_path).append(ROW)
    row = json.loads((tmp_path / "results.jsonl").read_text())
    named = {"policy": "locret", "task": "mix", "length": 512, "budget": 64, "samples": 16, "score": 87.5}
    assert named.items() <= row.items()
    assert (row["kv_bytes"], row["prefill_seconds"], row["decode_seconds"]) == (4096, 0.5, 0.25)


def test_a_row_is_found_again_by_a_new_run(tmp_path: Path) -> None:
    ResultFile(tmp_path).append(ROW)
    assert ResultFile(tmp_path).find(CELL, SUBJECT) == ROW


def test_rows_of_earlier_versions_are_found(tmp_path: Path) -> None:
    row = ROW.as_json()
    later = ("prefill", "chat", "max_new_tokens", "data", "decode_budget", "decode_every", "offloaded_bytes")
    old = {name: value for name, value in row.items() if name not in later}
    (tmp_path / "results.jsonl").write_text(json.dumps(old) + "\n")
    results = ResultFile(tmp_path)
    assert results.find(CELL, SUBJECT) == ROW
    assert results.rows() == [ROW]
    assert results.find(replace(CELL, chat=True), SUBJECT) is None


def test_what_is_offloaded_comes_back(tmp_path: Path) -> None:
    row = Row(CELL, replace(ROW.measures, offloaded_bytes=1024), SUBJECT)
    ResultFile(tmp_path).append(row)
    assert row.as_json()["offloaded_bytes"] == 1024
    assert ResultFile(tmp_path).find(CELL, SUBJECT) == row


def test_parts_of_a_score_come_back(tmp_path: Path) -> None:
    row = Row(CELL, replace(ROW.measures, parts={"rouge1": 3.5}), SUBJECT)
    ResultFile(tmp_path).append(row)
    assert "parts" not in ROW.as_json()
    assert ResultFile(tmp_path).find(CELL, SUBJECT) == row


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"samples": 32}, {"query_first": True}, {"split": "heldout"}, {"budget": Budget(64, 32, 8, 4)}],
)
def test_a_row_of_other_settings_is_not_taken(tmp_path: Path, change: dict[str, object]) -> None:
    results = ResultFile(tmp_path)
    results.append(ROW)
    assert results.find(replace(CELL, **change), SUBJECT) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["model", "heads", "weights", "dtype", "filler"])
def test_a_row_of_another_subject_is_not_taken(tmp_path: Path, field: str) -> None:
    results = ResultFile(tmp_path)
    results.append(ROW)
    assert results.find(CELL, replace(SUBJECT, **{field: "other"})) is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("length", "400", 'length is "400", which is no int'),
        ("score", None, "score is null, which is no float"),
        ("kv_bytes", float("inf"), "kv_bytes is Infinity, which is no int"),
        ("chunk", 0, "budget chunk is 0: give at least 1"),
        ("positions", "none", 'positions is "none"'),
        ("weights", 5, "weights is 5, which is no str"),
    ],
)
def test_a_row_with_a_field_of_another_type_is_named(tmp_path: Path, field: str, value: object, words: str) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps({**ROW.as_json(), field: value}) + "\n")
    with pytest.raises(LocretError, match=rf"results\.jsonl has a row in which {words}.*: remove the line"):
        ResultFile(tmp_path).rows()


def test_half_a_line_of_a_killed_run_is_dropped(tmp_path: Path) -> None:
    ResultFile(tmp_path).append(ROW)
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes() + b'{"policy": "loc')
    results = ResultFile(tmp_path)
    other = Row(replace(CELL, seed=1), ROW.measures, SUBJECT)
    results.append(other)
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1]
    assert ResultFile(tmp_path).find(other.cell, SUBJECT) == other


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(LocretError, match=r"results\.jsonl, line 2 is not a JSON object: remove"):
        ResultFile(tmp_path)
