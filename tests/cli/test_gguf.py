"""GGUF files on the command line: every command takes them, and bad ones are one line and exit code 1."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import locret
from tests.cli.conftest import Run, error_line, only_json
from tests.models.bad_gguf import BAD, write_bad
from tests.models.gguf_files import draft_of, small_llama


@pytest.fixture
def file(tmp_path: Path) -> Path:
    model = small_llama(max_position_embeddings=4096)
    torch.manual_seed(0)
    locret.RetainingHeads.from_config(model.config, width=16).save_pretrained(tmp_path / "heads")
    return draft_of(model).write(tmp_path / "model.gguf")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_one_line_and_exit_code_1(kind: str, run: Run, tmp_path: Path, document: Path) -> None:
    path, (_, message) = write_bad(kind, tmp_path / "bad"), BAD[kind]
    line = error_line(run("generate", "--model", path, "--prompt-file", document, "--json"))
    assert re.search(message, line)


def test_generate_needs_nothing_but_the_file(run: Run, file: Path, document: Path) -> None:
    options = ("--budget", 96, "--chunk", 64, "--local", 8, "--max-new-tokens", 4, "--json")
    asked = ("--document", document, "--question", "What stood by the river?")
    found = only_json(run("generate", "--model", file, *asked, *options))
    assert found["kept_tokens"] < found["prompt_tokens"]
    assert found["token_ids"] == only_json(run("generate", "--model", file.parent, *asked, *options))["token_ids"]


def test_plan_counts_the_weights_as_they_are_loaded(run: Run, file: Path) -> None:
    weights = sum(weight.numel() for weight in small_llama().parameters())
    options = ("--length", 100, "--memory", "1GB", "--json")
    assert only_json(run("plan", "--model", file, "--device", "cpu", *options))["weights_bytes"] == 4 * weights
    assert only_json(run("plan", "--model", file, "--device", "cuda", *options))["weights_bytes"] == 2 * weights
    assert only_json(run("plan", "--model", file, "--dtype", "float16", *options))["weights_bytes"] == 2 * weights


def test_bench_runs_on_a_file(run: Run, file: Path) -> None:
    options = ("--lengths", 64, "--policies", "locret,full", "--budget", 16, "--new-tokens", 2, "--repeats", 1)
    [locret_row, full_row] = only_json(run("bench", "--model", file, *options, "--json"))["results"]
    assert locret_row["kv_bytes"] < full_row["kv_bytes"]


def test_the_tokenizer_alone_is_read_of_a_file(run: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "ruler.jsonl"
    options = ("--task", "vt", "--length", 1024, "--samples", 1, "--out", out, "--json")
    assert only_json(run("ruler", "--model", file, *options))["samples"] == 1
