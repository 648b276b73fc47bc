"""Every method that the interface names, in every command that takes some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, error_line, only_json
from tests.eval.models import TEXT

POLICIES = ("full", "locret", "streaming_llm", "h2o", "tova", "snapkv", "sirllm", "random")
WHOLE = ("infllm", "minference", "quant2", "quant4")  # nothing is evicted
COMBINED = ("locret+quant4", "locret+recall", "locret+merge", "locret_q")
READING = ("--budget", 64, "--chunk", 50, "--stabilizers", 16, "--local", 8, "--max-new-tokens", 3)


@pytest.mark.parametrize("name", [*POLICIES, *WHOLE, *COMBINED])
def test_generate_takes_every_method(run: Run, model_folder: Path, document: Path, name: str) -> None:
    options = ("--model", model_folder, "--prompt-file", document, "--policy", name, *READING, "--json")
    result = only_json(run("generate", *options))
    assert len(result["token_ids"]) == 3
    assert result["kept_tokens"] == (900 if name in ("full", *WHOLE) else 64 + 8)
    assert result["kv_bytes"] > 0 == result["offloaded_bytes"]


def test_eval_takes_every_method(run: Run, model_folder: Path, tmp_path: Path) -> None:
    filler = tmp_path / "filler.txt"
    filler.write_text(TEXT)
    names = (*POLICIES, *WHOLE, *COMBINED)
    grid = ("--lengths", 300, "--budgets", "64,96", "--samples", 1, "--tasks", "magic", "--keys", 1, "--chunk", 64)
    common = ("--model", model_folder, "--filler", filler, "--stabilizers", 16, "--local", 8, "--max-new-tokens", 2)
    rows = only_json(run("eval", *common, *grid, "--policies", ",".join(names), "--json"))["results"]
    budgets = {name: [row["budget"] for row in rows if row["policy"] == name] for name in names}
    once = {"full", "minference", "quant2", "quant4"}
    assert budgets == {name: [300] if name in once else [64, 96] for name in names}
    assert all(row["kv_bytes"] > 0 == row["offloaded_bytes"] for row in rows)
    held = {(row["policy"], row["budget"]): row["kv_bytes"] for row in rows}
    assert held["quant4", 300] < held["full", 300]
    assert held["locret+recall", 64] > held["locret", 64]  # evicted units are somewhere, and are counted


def test_without_a_budget_infllm_has_the_papers_sizes(run: Run, model_folder: Path, document: Path) -> None:
    common = ("generate", "--model", model_folder, "--prompt-file", document, "--max-new-tokens", 3, "--json")
    full = only_json(run(*common, "--policy", "full"))
    assert only_json(run(*common, "--policy", "infllm"))["token_ids"] == full["token_ids"]  # 900 are all in sight
    line = error_line(run(*common[:-1], "--policy", "infllm", "--budget", 32))
    assert "a budget of 32 has no room for them all: give at least 49" in line


def test_bench_sizes_infllm_by_a_budget_that_is_given(run: Run) -> None:
    options = ("bench", "--lengths", 200, "--repeats", 1, "--new-tokens", 2, "--policies", "infllm,locret+merge")
    [infllm, merged] = only_json(run(*options, "--budget", 64, "--chunk", 64, "--json"))["results"]
    assert infllm["kv_bytes"] > merged["kv_bytes"] > 0
    assert "no room for them all" in error_line(run(*options, "--budget", 40))


@pytest.mark.parametrize("policy", ["locret_q", "locret", "snapkv+quant4"])
def test_the_question_before_the_document(run: Run, model_folder: Path, document: Path, policy: str) -> None:
    asked = ("--document", document, "--question", "Who asked?", "--policy", policy)
    common = ("generate", "--model", model_folder, *asked, *READING, "--json")
    behind = only_json(run(*common))["prompt_tokens"]
    assert only_json(run(*common, "--query-first"))["prompt_tokens"] == behind + len("Question: Who asked?\n")


@pytest.mark.parametrize("option", ["--prompt-file", "--prompt-ids"])
def test_the_question_of_a_whole_prompt_is_not_known(run: Run, option: str) -> None:
    result = run("generate", option, "a.txt", "--query-first")
    assert result.exit_code == 2
    assert "--query-first needs --document and --question" in " ".join(result.stderr.replace("│", " ").split())
