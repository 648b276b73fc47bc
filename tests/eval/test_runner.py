from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import locret
from locret.engine import parse
from locret.errors import LocretError
from locret.eval import reading
from locret.eval.contexts import contexts
from locret.eval.grid import BudgetRule, Cell, Grid, cells
from locret.eval.haystack import Filler
from locret.eval.needles import Needle
from locret.eval.planning import check_window
from locret.eval.quizzes.contract import Passage
from locret.eval.reading import Combined
from locret.eval.results import ResultFile, Row, Subject
from locret.eval.runner import Reader, run_grid
from locret.eval.tasks import get_task
from tests.conftest import make_policy
from tests.eval.models import TEXT, byte_llama, byte_tokenizer

POLICIES = {name: locret.get_policy(name) for name in ("full", "streaming_llm", "random")}
SUBJECT = Subject("tiny", "", "0", "float32", "test")
GRID = Grid(
    tasks=("magic",),
    lengths=(600,),
    budgets=(64,),
    samples=6,
    keys=4,
    rule=BudgetRule(chunk=100, local=8, stabilizers=8),
)


class Watched:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.tokens: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str, int]] = []
        self.resumed: list[bool] = []

    def begin(self, cell: Cell, tokens: int) -> None:
        self.tokens[cell.policy] = [tokens, 0]

    def advance(self, tokens: int) -> None:
        list(self.tokens.values())[-1][1] += tokens

    def answered(self, cell: Cell, passage: Passage, session: Any, right: Mapping[int, float]) -> None:
        asked = [passage.questions[index].item.needle.key for index in right]
        self.asked += [(cell.policy, key, session.tokens_seen) for key in asked]

    def end(self, row: Row, resumed: bool) -> None:
        self.resumed.append(resumed)


def make_reader(watch: Watched) -> Reader:
    return Reader(byte_llama(), byte_tokenizer(begins=True), POLICIES, Filler(TEXT), watch)


def test_every_policy_reads_the_same_documents_and_questions() -> None:
    watch = Watched()
    rows = run_grid(make_reader(watch), GRID, SUBJECT)
    asked = {name: [key for policy, key, _ in watch.asked if policy == name] for name in POLICIES}
    assert asked["full"] == asked["streaming_llm"] == asked["random"]
    assert len(asked["full"]) == GRID.samples
    assert {seen for *_, seen in watch.asked} == {600}
    assert [row.measures.kv_bytes for row in rows] == [600 * 384, 72 * 384, 72 * 384]  # size + local for the rivals
    assert all(done == total == 1200 for total, done in watch.tokens.values())


def test_with_the_question_first_each_question_has_its_own_reading() -> None:
    watch = Watched()
    grid = Grid(**{**_fields(GRID), "query_first": True, "samples": 2})
    run_grid(make_reader(watch), grid, SUBJECT)
    assert all(seen > 600 + len("Question: ") for *_, seen in watch.asked)
    assert len(watch.asked) == 2 * len(POLICIES)
    assert all(done == total == 1200 for total, done in watch.tokens.values())


def test_a_policy_that_takes_notice_is_told_of_the_question_in_front() -> None:
    model, tokenizer = byte_llama(), byte_tokenizer()
    policy = make_policy("locret_q", model)
    budget = locret.Budget(size=64, chunk=100, stabilizers=8, local=8)
    reading = Combined(parse("locret_q+quant8"), policy).open_reading(model, tokenizer, budget)
    ids = tokenizer("Question: Why?\n" + TEXT[:500])["input_ids"]
    told = reading.read(ids, lambda done, total: None, 16)
    assert reading.engine.policy is policy  # the same engine reads every passage
    by_hand = locret.Engine(model, policy=replace(policy, question=16), budget=budget, storage="quant8").prefill(ids)
    for layer in range(len(told.cache.layers)):
        assert torch.equal(told.cache.kept_positions(layer), by_hand.cache.kept_positions(layer))
        assert told.cache.kept_positions(layer)[..., :16].tolist() == [[list(range(16))] * 2]
    asked = reading.engine.prefill(tokenizer(" Why?")["input_ids"], told)
    assert asked.cache.reading.policy.question == 16  # for the whole session
    assert reading.read(ids, lambda done, total: None).cache.reading.policy.question == policy.question


@pytest.mark.parametrize("query_first", [False, True])
def test_the_runner_tells_how_long_the_question_in_front_is(monkeypatch: pytest.MonkeyPatch, query_first: bool) -> None:
    told = []
    prefill = locret.Engine.prefill

    def spy(self: locret.Engine, prompt: Any, session: Any = None, **options: Any) -> locret.Session:
        if session is None:
            told.append(byte_tokenizer().decode(prompt[: options["question_tokens"]]))
        return prefill(self, prompt, session, **options)

    monkeypatch.setattr(locret.Engine, "prefill", spy)
    watch = Watched()
    grid = Grid(**{**_fields(GRID), "query_first": query_first, "samples": 2})
    run_grid(make_reader(watch), grid, SUBJECT)
    first = [f"<s>Question: What is the magic number for {key}?\n" for _, key, _ in watch.asked]
    assert told == (first if query_first else [""] * len(POLICIES))


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    class Killed(Watched):
        def end(self, row: Row, resumed: bool) -> None:
            super().end(row, resumed)
            if len(self.resumed) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_grid(make_reader(Killed()), GRID, SUBJECT, ResultFile(tmp_path))
    first = (tmp_path / "results.jsonl").read_text()
    assert [json.loads(line)["policy"] for line in first.splitlines()] == ["full", "streaming_llm"]
    watch = Watched()
    rows = run_grid(make_reader(watch), GRID, SUBJECT, ResultFile(tmp_path))
    assert watch.resumed == [True, True, False]
    assert {policy for policy, *_ in watch.asked} == {"random"}
    assert [row.cell.policy for row in rows] == ["full", "streaming_llm", "random"]
    assert (tmp_path / "results.jsonl").read_text().startswith(first)


class OracleEngine:
    """Answers the first questions right, as many as it is told, and the others wrong."""

    right = 0

    def __init__(self, *_: object, **__: object) -> None:
        self.questions = 0

    def prefill(self, ids: list[int], session: Any = None, **_: object) -> Any:
        read = [*session.read, byte_tokenizer().decode(ids)] if session else [byte_tokenizer().decode(ids)]
        return SimpleNamespace(read=read, kv_bytes=7, offloaded_bytes=3, prefill_seconds=2.0, tokens_seen=len(ids))

    def generate(self, session: Any, **_: object) -> Any:
        self.questions += 1
        document, question = session.read
        fact = question.partition("Answer: ")[2]
        value = document.partition(f"{fact} ")[2].partition(".")[0]
        return SimpleNamespace(text=f" {value}" if self.questions <= self.right else " 00000")


@pytest.mark.parametrize("right", [0, 3, 6])
def test_scores_are_per_cent_of_right_answers(monkeypatch: pytest.MonkeyPatch, right: int) -> None:
    monkeypatch.setattr(reading, "Engine", OracleEngine)
    monkeypatch.setattr(OracleEngine, "right", right)
    reader = Reader(byte_llama(), byte_tokenizer(), {"full": POLICIES["full"]}, Filler(TEXT), Watched())
    [row] = run_grid(reader, GRID, SUBJECT)
    assert row.measures.score == pytest.approx(100 * right / 6, abs=0.01)
    assert row.measures.low <= row.measures.score <= row.measures.high
    assert (row.measures.kv_bytes, row.measures.offloaded_bytes, row.measures.prefill_seconds) == (7, 3, 2.0)


def test_documents_depend_on_the_seed_and_not_on_policy_or_budget() -> None:
    def documents(**changes: Any) -> list[tuple[int, ...]]:
        cell = next(cells(Grid(**{**_fields(GRID), **changes}), POLICIES))
        return [context.document_ids for context in contexts(cell, byte_tokenizer(), Filler(TEXT))]

    assert documents() == documents(budgets=(128,), query_first=True)
    assert documents()[0] != documents()[1]
    assert documents() != documents(seeds=(1,))
    assert all(len(ids) == 600 for ids in documents())


def test_a_needle_that_is_cut_short_is_wrong() -> None:
    needle = Needle("magic", "x", "3812", "", "", " 3812")
    task = get_task("magic")
    assert [task.score(text, needle) for text in (" 3812", " 381", " 38123", " The 3812")] == [1, 0, 0, 0]


def _fields(grid: Grid) -> dict[str, Any]:
    return {name: getattr(grid, name) for name in grid.__slots__}


def test_a_document_without_room_for_its_question_is_refused_before_reading() -> None:
    budget = BudgetRule().budget(64, 4000)
    cell = Cell("random", "magic", 4000, budget, 8, 0, 8, "trained", False)
    with pytest.raises(LocretError, match=r"length 4000 leaves no room .* window of 4096: give at most 3968, or"):
        check_window(cell, 4096)
    check_window(replace(cell, length=3968), 4096)
    check_window(replace(cell, budget=BudgetRule(positions="compact").budget(64, 4000)), 4096)
