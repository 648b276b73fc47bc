from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, error_line, only_json
from tests.eval.models import TEXT


def test_a_file_for_the_model(run: Run, model_folder: Path, tmp_path: Path) -> None:
    essay, out = tmp_path / "essay.txt", tmp_path / "out" / "niah.jsonl"
    essay.write_text(TEXT)
    options = ("--task", "niah_single_2", "--length", 2048, "--samples", 3, "--essay", essay, "--out", out)
    made = only_json(run("ruler", "--model", model_folder, *options, "--json"))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert made["task"] == "niah_single_2"
    assert (made["samples"], made["length"], made["out"]) == (3, 2048, str(out))
    assert (made["shortest"], made["longest"]) == (
        min(line["length"] for line in lines), max(line["length"] for line in lines),
    )  # fmt: skip
    assert all("by the river" in line["input"] for line in lines)
    for line in lines:  # one token a byte
        assert line["length"] == len((line["input"] + line["answer_prefix"]).encode()) + 128
    first = out.read_bytes()
    assert run("ruler", "--model", model_folder, *options).exit_code == 0
    assert out.read_bytes() == first


def test_the_builtin_tokenizer_is_the_default(run: Run, tmp_path: Path) -> None:
    result = run("ruler", "--task", "vt", "--samples", 1, "--length", 700, "--out", tmp_path / "vt.jsonl")
    assert result.exit_code == 0
    assert "1 samples of 6" in result.stderr


def test_too_few_documents_are_told(run: Run, tmp_path: Path) -> None:
    data = [{"question": "Who?", "answer": "She", "context": [["She", ["She did."]]]}]
    (tmp_path / "hotpot.json").write_text(json.dumps(data))
    options = ("--task", "qa_2", "--samples", 1, "--questions", tmp_path / "hotpot.json", "--out", tmp_path / "a.jsonl")
    result = run("ruler", *options)
    assert result.exit_code == 0
    assert "there is no text for 4096 tokens" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "niah"), "no task 'niah': choose one of"),
        (("--task", "vt", "--length", 100), "length 100 is too short for vt"),
        (("--task", "vt", "--samples", 0), "samples is 0"),
        (("--task", "qa_1"), "does not ship with locret"),
        (("--task", "qa_1", "--questions", "none.json"), "no file none.json"),
        (("--task", "niah_single_2", "--essay", "none.txt"), "no file none.txt"),
        (("--task", "vt", "--model", "./no/such/model"), "the tokenizer of './no/such/model' could not be loaded"),
    ],
)
def test_what_cannot_be_made(run: Run, tmp_path: Path, options: tuple[object, ...], message: str) -> None:
    assert message in error_line(run("ruler", "--out", tmp_path / "a.jsonl", *options))
    assert list(tmp_path.iterdir()) == []


def test_a_task_and_a_file_must_be_named(run: Run) -> None:
    assert run("ruler", "--out", "a.jsonl").exit_code == 2
    assert run("ruler", "--task", "vt").exit_code == 2
