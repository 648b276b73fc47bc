"""The three tasks in whole evaluations: rows, lines, going on, merging."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import locret
from locret.errors import LocretError
from locret.eval.fidelity import build_passage, distances, reference
from locret.eval.grid import BudgetRule, Grid
from locret.eval.kvpress_output import write_kvpress
from locret.eval.measures import measures_of
from locret.eval.merging import merge
from locret.eval.planning import check_window
from locret.eval.predictions import read_predictions
from locret.eval.results import ResultFile, Row, Subject
from locret.eval.runner import Reader, run_grid
from locret.eval.table import markdown_table, rich_table
from locret.eval.workers import Silent
from tests.eval.fidelity.test_passage import FILLER
from tests.eval.models import byte_llama, byte_tokenizer

SUBJECT = Subject("tiny", "", "0", "float32", "test")
RULE = BudgetRule(chunk=200, local=8, stabilizers=8)
LINE = {"document": 0, "kv_bytes": 1, "prefill_seconds": 1.0, "decode_seconds": 1.0}


def grid(*tasks: str, **changes: Any) -> Grid:
    settings: dict[str, Any] = {"tasks": tasks, "lengths": (1600,), "budgets": (64,), "samples": 2, "rule": RULE}
    return Grid(**{**settings, **changes})


def reader(*policies: str, watch: Any = None) -> Reader:
    named = {name: locret.get_policy(name) for name in policies}
    model = byte_llama(initializer_range=0.5)
    return Reader(model, byte_tokenizer(), named, FILLER, watch or Silent())


def test_full_attention_is_at_no_distance_from_itself_and_what_evicts_is() -> None:
    rows = run_grid(reader("full", "streaming_llm"), grid("facts", "repeat", "text"), SUBJECT)
    assert [(row.cell.task, row.cell.policy) for row in rows] == [
        (task, policy) for task in ("facts", "repeat", "text") for policy in ("full", "streaming_llm")
    ]
    for full, kept in zip(rows[::2], rows[1::2], strict=True):
        same, other = full.as_json(), kept.as_json()
        assert (same["kl"], same["kl_high"], same["agreement"], same["score"]) == (0, 0, 100, 100)
        assert same["nll"] == same["full_nll"] == other["full_nll"]
        assert other["kl"] > 0.01
        assert other["score"] == pytest.approx(other["agreement"], abs=0.01) and other["agreement"] < 100
        for name in ("kl", "agreement", "nll"):
            assert other[f"{name}_low"] <= other[name] <= other[f"{name}_high"]


def test_a_row_is_what_the_library_measures() -> None:
    [row] = run_grid(reader("random"), grid("repeat", seeds=(1,)), SUBJECT)
    made, told = reader("random", "full"), []
    for index in (2, 3):  # the second seed's documents come behind the first one's
        passage = build_passage(made.tokenizer, FILLER, 1600, index)
        forced, logits = passage.continuations["repeat"], {}
        for name, policy in made.policies.items():
            engine = locret.Engine(made.model, policy=policy, budget=row.cell.budget)
            logits[name] = engine.score(engine.prefill(passage.ids), forced.ids)
        told.append(distances(logits["random"], logits["full"], forced.ids, forced.measured))
    figures = row.measures.fidelity
    assert figures is not None
    for name, unit in (("kl", 1), ("agreement", 100), ("nll", 1), ("full_nll", 1)):
        mean = sum(float(getattr(one, name).mean()) for one in told) / 2
        assert getattr(figures, name) == pytest.approx(unit * mean, rel=1e-4)


def test_full_attention_is_asked_once_for_all_policies_and_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    plain = reference.Engine

    def counted(*args: Any, **options: Any) -> Any:
        asked.append(1)
        return plain(*args, **options)

    monkeypatch.setattr(reference, "Engine", counted)
    run_grid(reader("streaming_llm", "random"), grid("text", "repeat", budgets=(64, 128)), SUBJECT)
    assert len(asked) == 2 * 2  # documents x tasks


def test_a_killed_run_goes_on_and_asks_no_document_twice(tmp_path: Path) -> None:
    class Killed(Silent):
        def answered(self, *_: object) -> None:
            raise KeyboardInterrupt

    wanted = run_grid(reader("random"), grid("text"), SUBJECT)
    with pytest.raises(KeyboardInterrupt):
        run_grid(reader("random", watch=Killed()), grid("text"), SUBJECT, ResultFile(tmp_path))
    rows = run_grid(reader("random"), grid("text"), SUBJECT, ResultFile(tmp_path))
    assert rows[0].measures.fidelity == wanted[0].measures.fidelity
    lines = read_predictions(tmp_path, rows[0])
    assert [line["uid"] for line in lines] == ["0", "1"]
    assert {line["tokens"] for line in lines} == {64}
    assert run_grid(reader("random"), grid("text"), SUBJECT, ResultFile(tmp_path)) == rows
    (tmp_path / "results.jsonl").write_text("")  # killed between the last line and the row
    [merged] = merge([tmp_path], tmp_path / "all")
    assert merged.measures == rows[0].measures
    assert Row.from_json(json.loads(json.dumps(merged.as_json()))) == merged


def test_intervals_are_by_document() -> None:
    figures = [
        {"kl": kl, "agreement": kl / 4, "nll": 2 * kl, "full_nll": 1.0, "score": kl / 4} for kl in (1.0, 2.0, 3.0)
    ]
    told = measures_of("text", [{**LINE, **one, "document": number} for number, one in enumerate(figures)]).fidelity
    assert told is not None
    assert (told.kl, told.agreement, told.nll, told.full_nll) == (2, 50, 4, 1)
    assert told.kl_low is not None and told.kl_high is not None
    assert 1 <= told.kl_low < 2 < told.kl_high <= 3
    alone = measures_of("text", [{**LINE, **figures[0]}]).fidelity
    assert alone is not None
    assert (alone.kl, alone.kl_low, alone.kl_high) == (1, None, None)


def test_tables_show_the_figures() -> None:
    [row] = run_grid(reader("random"), grid("text", samples=1), SUBJECT)
    assert row.measures.fidelity is not None
    table = rich_table([row])
    told = {str(column.header): next(iter(column.cells)) for column in table.columns}
    figures = row.measures.fidelity
    want = {"KL": f"{figures.kl:.3f}", "agree %": f"{figures.agreement:.1f}", "NLL": f"{figures.nll:.2f}"}
    assert want.items() <= told.items()
    answered = replace(row, measures=replace(row.measures, fidelity=None))
    assert "KL" not in [column.header for column in rich_table([answered]).columns]
    both = {str(column.header): list(column.cells) for column in rich_table([row, answered]).columns}
    assert both["KL"] == [want["KL"], ""]
    assert f"KL {row.measures.fidelity.kl:.3f}, NLL {row.measures.fidelity.nll:.2f}" in markdown_table([row])


def test_kvpress_folders_hold_the_continuations(tmp_path: Path) -> None:
    made = reader("random")
    rows = run_grid(made, grid("text"), SUBJECT, ResultFile(tmp_path / "run"))
    [folder] = write_kvpress(tmp_path / "out", rows, made.quizzes, tmp_path / "run")
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        texts = [(line["context"], line["answer"]) for line in csv.DictReader(file)]
    passages = [build_passage(made.tokenizer, FILLER, 1600, index) for index in range(2)]
    for passage, text in zip(passages, texts, strict=True):
        parts = (passage.ids, passage.continuations["text"].targets)
        assert text == tuple(made.tokenizer.decode(ids) for ids in parts)
    assert json.loads((folder / "metrics.json").read_text()) == {"text": {"score": rows[0].measures.score}}


def test_bad_grids() -> None:
    with pytest.raises(LocretError, match="text has no question to stand first: leave out --query-first"):
        grid("text", query_first=True)
    [row] = run_grid(reader("random"), grid("text", samples=1), SUBJECT)
    cell = replace(row.cell, length=4001, budget=replace(row.cell.budget, positions="compact"))
    with pytest.raises(LocretError, match=r"length 4001 leaves no room for text .* window of 4096.* at most 4000"):
        check_window(cell, 4096)
    check_window(replace(cell, length=4000), 4096)


def test_full_attentions_time_is_not_the_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: reference.References, *_: object) -> torch.Tensor:
        self.seconds += 1000.0
        return torch.zeros(64, 258)

    monkeypatch.setattr(reference.References, "logits", slow)
    [row] = run_grid(reader("random"), grid("text", samples=1), SUBJECT)
    assert row.measures.decode_seconds < 0  # what was spent aside is taken off
