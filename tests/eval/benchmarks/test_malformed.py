"""Malformed records and predictions: an error with file and line, or skipped and told; never anything else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.catalogue import get_benchmark_task
from locret.eval.benchmarks.damaged import Skipped, predictions

BOOK = {"id": 1, "context": "a b", "input": "who?", "answer": ["Ann"], "options": ["Ann", "Ben", "Cy", "Di"]}
EXAM = {"instructions": ["Which?"], "outputs": ["A"], "input": "a text", "source": "", "evaluation": "exam"}
SAMPLE = {
    "index": 0,
    "input": "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz "
    "you about the numbers afterwards.\na\nWhat is the special magic number for x mentioned in the provided text?",
    "outputs": ["1"],
    "length": 9,
}
RECORDS = {
    "infinitebench/passkey": {**BOOK, "answer": "71432"},
    "infinitebench/longbook_choice_eng": BOOK,
    "infinitebench/math_find": {
        **BOOK,
        "input": "You should answer with only one number, no other words. The largest number of the list is:",
        "answer": 7,
    },
    "leval/coursera": EXAM,
    "leval/news_summ": {**EXAM, "evaluation": "rouge"},
    "ruler/niah_single_1": SAMPLE,
}
PREDICTIONS = {
    "infinitebench/passkey": {"id": 1, "prediction": "1", "ground_truth": "1"},
    "infinitebench/longbook_choice_eng": {"id": 1, "prediction": "A", "ground_truth": ["Ann", "A"]},
    "infinitebench/math_find": {"id": 1, "prediction": "1", "ground_truth": 1},
    "leval/coursera": {"query": "?", "gt": "A", "x_pred": "A", "evaluation": "exam"},
    "leval/sci_fi": {"query": "?", "gt": "True [fact: False]", "x_pred": "True [fact: False]", "evaluation": "exam"},
    "ruler/niah_single_1": {"pred": "1", "outputs": ["1"]},
}
NEEDED = {"context", "input", "answer", "instructions", "outputs", "prediction", "ground_truth", "gt", "x_pred", "pred"}
NO_JSON = ["{", "[1, 2]", "7", '"text"', "null", "{'a': 1}", '{"a": NaN,}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}"]


def malformed(good: dict[str, Any]) -> Iterator[str]:
    """Lines that are no record of the kind of `good`."""
    yield from NO_JSON
    for name in sorted(NEEDED & good.keys()):
        yield json.dumps({key: value for key, value in good.items() if key != name})
        for wrong in (None, {"a": 1}, [[1]], True):
            yield json.dumps({**good, name: wrong})


def every(kinds: dict[str, dict[str, Any]]) -> list[Any]:
    cases = [(name, line) for name, good in kinds.items() for line in malformed(good)]
    return [pytest.param(name, line, id=f"{name} {line[:70]}") for name, line in cases]


def test_there_are_more_than_a_hundred_of_each_kind() -> None:
    assert len(every(RECORDS)) > 100
    assert len(every(PREDICTIONS)) > 100


@pytest.mark.parametrize(("name", "line"), every(RECORDS))
def test_malformed_records(tmp_path: Path, name: str, line: str) -> None:
    task, good = get_benchmark_task(*name.split("/")), json.dumps(RECORDS[name])
    path = tmp_path / "data.jsonl"
    path.write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")
    with pytest.raises(LocretError, match=r"data\.jsonl, line 2 "):
        list(task.load(path))
    skipped = Skipped()
    assert len(list(task.load(path, skipped))) == 2
    assert len(skipped.reasons) == 1


@pytest.mark.parametrize(("name", "line"), every(PREDICTIONS))
def test_malformed_predictions(tmp_path: Path, name: str, line: str) -> None:
    task, good = get_benchmark_task(*name.split("/")), json.dumps(PREDICTIONS[name])
    path = tmp_path / "data.jsonl"
    path.write_text(f"{good}\n{line}\n{good}\n", encoding="utf-8")

    def stop(error: LocretError) -> None:
        raise error

    with pytest.raises(LocretError, match=r"data\.jsonl, line 2 "):
        predictions(task, path, stop)
    skipped = Skipped()
    assert task.score(predictions(task, path, skipped)) == task.score([PREDICTIONS[name]])
    assert len(skipped.reasons) == 1
