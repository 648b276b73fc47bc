"""Published predictions get the scores that the authors' scorers give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer

from locret.eval.benchmarks.base import details
from locret.eval.benchmarks.catalogue import get_benchmark_task, task_of_file
from locret.eval.benchmarks.jsonl import read_jsonl
from tests.conftest import SHARED

GOLDEN = SHARED / "golden"
SUMMARIES = ("meeting_summ", "news_summ")


def published(benchmark: str) -> list[str]:
    return sorted(str(path.relative_to(GOLDEN)) for path in (GOLDEN / benchmark).glob("*/*.gz"))


def expected(benchmark: str) -> dict[str, dict[str, Any]]:
    return json.loads((GOLDEN / f"{benchmark}_scores.json").read_text())


def predictions(path: Path) -> list[Any]:
    return [record.fields for record in read_jsonl(path)]


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("name", published("infinitebench"))
def test_infinitebench(name: str) -> None:
    path = GOLDEN / name
    task = task_of_file("infinitebench", path)
    want = expected("infinitebench")[f"{path.parent.name}/{task.name}"]
    lines = predictions(path)
    assert len(lines) == want["n"]
    assert task.score(lines) == pytest.approx(want["score"], abs=1e-4)


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("name", [name for name in published("leval") if not any(map(name.count, SUMMARIES))])
def test_leval(name: str) -> None:
    path = GOLDEN / name
    task = task_of_file("leval", path)
    want = expected("leval")[f"{path.parent.name}/{task.name}.pred.jsonl"]
    lines = predictions(path)
    assert details(task, lines)["samples"] == want["n"]
    assert task.score(lines) == pytest.approx(want["score"], abs=1e-4)


def test_every_file_with_a_score_is_checked(shared_data: Path) -> None:
    summaries = sum(any(map(name.count, SUMMARIES)) for name in published("leval"))
    assert len(published("infinitebench")) == len(expected("infinitebench"))
    assert len(published("leval")) == len(expected("leval")) + summaries


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_against_the_rouge_library(shared_data: Path, name: str) -> None:
    [path] = shared_data.glob(f"golden/leval/*/{name}.pred.jsonl.gz")
    lines = predictions(path)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    scores = [scorer.score(line["gt"], line["turbo-16k-0613_pred"]) for line in lines]
    means = {kind: 100 * sum(score[kind].fmeasure for score in scores) / len(scores) for kind in scores[0]}
    task = get_benchmark_task("leval", name)
    assert details(task, lines) == {"samples": len(lines), **{k: pytest.approx(v, abs=1e-9) for k, v in means.items()}}
    product = means["rouge1"] * means["rouge2"] * means["rougeL"]
    assert task.score(lines) == pytest.approx(product ** (1 / 3), abs=1e-9)
