"""Files read back, predictions and scores."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import get_benchmark_task, list_benchmark_tasks
from locret.eval.ruler import Recipe, get_ruler_task, list_ruler_tasks, write_records


def line(pred: str, *outputs: str) -> dict[str, Any]:
    return {"index": 0, "input": "", "pred": pred, "outputs": list(outputs)}


def test_registered() -> None:
    assert sorted(list_benchmark_tasks("ruler")) == sorted(f"ruler/{name}" for name in list_ruler_tasks())
    assert get_benchmark_task("ruler", "vt") is get_ruler_task("vt")


@pytest.mark.parametrize("name", ["sample.jsonl", "sample.jsonl.gz"])
def test_a_file_is_read_back_and_its_predictions_are_scored(name: str, tokenizer: Any, tmp_path: Path) -> None:
    task, path = get_ruler_task("niah_multivalue"), tmp_path / name
    write_records(tmp_path / "sample.jsonl", Recipe("niah_multivalue", 1024, 3), tokenizer)
    data = (tmp_path / "sample.jsonl").read_bytes()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    examples = list(task.load(path))
    made = [json.loads(line) for line in data.splitlines()]
    assert [example.uid for example in examples] == ["0", "1", "2"]
    assert [example.prompt for example in examples] == [record["input"] + record["answer_prefix"] for record in made]
    assert [example.label for example in examples] == [record["outputs"] for record in made]
    right, half, wrong = examples
    predictions = [
        task.prediction(right, " " + ", ".join(right.label) + ".\n"),
        task.prediction(half, " and ".join(half.label[:2])),
        task.prediction(wrong, "I do not know."),
    ]
    assert predictions[0].keys() == {"index", "pred", "input", "outputs", "others", "truncation", "length"}
    assert [prediction["input"] for prediction in predictions] == [record["input"] for record in made]
    assert task.score(predictions) == 50.0
    assert task.score(predictions[:2]) == 75.0


@pytest.mark.parametrize(
    ("name", "predictions", "score"),
    [
        ("niah_single_1", [line("It is 1234567.", "1234567")], 100.0),
        ("niah_single_1", [line("It is 123 4567.", "1234567")], 0.0),
        ("vt", [line("ABCDE, fghij", "ABCDE", "FGHIJ", "KLMNO")], 66.67),
        ("cwe", [line("1. tree 2. sea", "tree", "sea", "hill"), line("", "hill")], 33.33),
        ("qa_1", [line("NORMANDY, I think", "France", "normandy")], 100.0),
        ("qa_1", [line("Spain", "France", "Normandy")], 0.0),
        ("qa_2", [line("yes", "Yes"), line("no", "yes"), line("", "yes")], 33.33),
        ("fwe", [line("abcdef\x00ghijkl", "abcdef", "ghijkl")], 100.0),
        ("fwe", [line("abc\x1bdef", "abcdef")], 0.0),
        ("niah_single_2", [{"pred": "7", "output": "7"}], 100.0),
    ],
)
def test_scores(name: str, predictions: list[dict[str, Any]], score: float) -> None:
    assert get_ruler_task(name).score(predictions) == score


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], "no predictions of vt"),
        ([{"outputs": ["a"]}], "prediction 1 has no field 'pred'"),
        ([line("a", "a"), {"pred": "a"}], "prediction 2 has no field 'output'"),
        ([line("a")], "prediction 1 has no reference"),
        ([{"pred": "a", "outputs": "a"}], "give a list of texts"),
        ([{"pred": None, "outputs": ["a"]}], "give text"),
    ],
)
def test_predictions_that_cannot_be_scored(predictions: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        get_ruler_task("vt").score(predictions)


def test_files_of_others_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "validation.jsonl"
    path.write_text(json.dumps({"index": 7, "input": "[INST] What is it? [/INST]", "outputs": ["it"]}))
    [example] = get_ruler_task("qa_2").load(path)
    assert (example.uid, example.prompt, example.label) == ("7", "[INST] What is it? [/INST]", ["it"])


@pytest.mark.parametrize(
    ("data", "message"),
    [('{"input": "a"}', "'outputs'"), ('{"outputs": []}', "'input'"), ("{", "line 1"), ("[]", "line 1")],
)
def test_files_that_are_no_samples(data: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "validation.jsonl"
    path.write_text(data)
    with pytest.raises(LocretError, match=message):
        list(get_ruler_task("vt").load(path))
    with pytest.raises(LocretError, match="cannot read"):
        list(get_ruler_task("vt").load(tmp_path / "none.jsonl"))
