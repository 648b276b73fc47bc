"""Scores of cells: the benchmarks' own, and made of parts that can be drawn again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import list_benchmark_tasks
from locret.eval.benchmarks.jsonl import read_jsonl
from locret.eval.judging import judge
from locret.eval.measures import measures_of
from locret.eval.quizzes.names import benchmark_task

ANSWERED = {"document": 0, "kv_bytes": 7, "prefill_seconds": 2.0, "decode_seconds": 1.0}


def golden(folder: Path) -> list[tuple[str, Path]]:
    names = [(name, *name.split("/")) for name in list_benchmark_tasks()]
    return [
        (name, path)
        for name, benchmark, task in names
        for pattern in (f"{benchmark}/*/preds_{task}.jsonl.gz", f"{benchmark}/*/{task}.pred.jsonl.gz")
        for path in folder.glob(pattern)
    ]


def test_means_of_parts_make_the_score_of_published_predictions(shared_data: Path) -> None:
    files = golden(shared_data / "golden")
    assert len(files) > 25
    for name, path in files:
        lines = [record.fields for record in read_jsonl(path)][:60]
        judged = judge(name, lines)
        score = benchmark_task(name).score(lines)
        assert judged.score == pytest.approx(np.mean(score)), path
        assert float(judged.together(np.nanmean(judged.columns, axis=0))) == pytest.approx(judged.score, abs=1e-6), path
        assert len(judged.columns) == len(lines)


def test_ruler_and_rouge() -> None:
    lines = [{"pred": "one two", "outputs": ["one", "two", "six"]}, {"pred": "", "outputs": ["one"]}]
    assert judge("vt", lines).columns.ravel() == pytest.approx([66.67, 0], abs=0.01)
    summaries = [
        {"gt": "a b c d", "locret_pred": text, "evaluation": "rouge", **ANSWERED} for text in ("a b c d", "a b x")
    ]
    judged = judge("leval/news_summ", summaries)
    assert judged.columns.shape == (2, 3)
    assert judged.parts.keys() == {"rouge1", "rouge2", "rougeL"}
    assert float(judged.together(judged.columns.mean(axis=0))) == pytest.approx(judged.score)
    assert measures_of("leval/news_summ", summaries).parts == {n: round(p, 2) for n, p in judged.parts.items()}


def test_topics_are_parts_of_their_mean() -> None:
    lines = [{"gt": "a", "locret_pred": answer, "evaluation": "exam"} for answer in "aabaaa"]
    judged = judge("leval/topic_retrieval_longchat", lines)
    assert judged.parts == {"part1": 100, "part2": 100, "part3": 50}
    assert judged.score == pytest.approx(250 / 3)


def test_measures_are_means() -> None:
    lines: list[dict[str, Any]] = [
        {"score": 1.0, "document": 0, "kv_bytes": 5, "prefill_seconds": 2.0, "decode_seconds": 1.0},
        {"score": 0.0, "document": 0, "kv_bytes": 9, "prefill_seconds": 2.0, "decode_seconds": 2.0},
        {"score": 1.0, "document": 1, "kv_bytes": 5, "prefill_seconds": 4.0, "decode_seconds": 3.0},
    ]
    measures = measures_of("mix", lines)
    assert (measures.score, measures.kv_bytes) == (66.67, 9)
    assert (measures.prefill_seconds, measures.decode_seconds) == (3.0, 2.0)  # a document counts once
    assert measures.low < 66.67 < measures.high
    assert measures == measures_of("mix", json.loads(json.dumps(lines)))


def test_nothing_to_score() -> None:
    with pytest.raises(LocretError, match="there is no prediction of mix to score"):
        judge("mix", [])


@pytest.mark.parametrize("field", ["document", "kv_bytes", "prefill_seconds", "decode_seconds", "score"])
@pytest.mark.parametrize("value", [None, "x", float("nan")])
def test_a_prediction_with_a_field_of_another_type_is_named(field: str, value: object) -> None:
    line = {"uid": "a7", "score": 1.0, "document": 0, "kv_bytes": 5, "prefill_seconds": 2.0, "decode_seconds": 1.0}
    with pytest.raises(LocretError, match=rf"prediction a7: {field} is .*: remove the file"):
        measures_of("mix", [{**line, field: value}])
    del line[field]
    with pytest.raises(LocretError, match=f"prediction a7: it has no {field}"):
        measures_of("mix", [line])
