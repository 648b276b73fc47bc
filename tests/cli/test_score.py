from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, error_line, only_json

RIGHT = '{"id": 0, "prediction": "71432", "ground_truth": "71432"}\n'
WRONG = '{"id": 1, "prediction": "none", "ground_truth": ["71432"]}\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "preds_passkey.jsonl"
    path.write_text(RIGHT + WRONG + "\n" + RIGHT)
    return path


def test_score(run: Run, file: Path) -> None:
    command = ("score", "--benchmark", "infinitebench", "--predictions", file)
    assert only_json(run(*command, "--task", "passkey", "--json")) == {"score": 66.6667, "samples": 3}
    told = run(*command)
    assert told.exit_code == 0
    assert told.stdout == "infinitebench passkey: score 66.6667, samples 3\n"


def test_gzip_and_names(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "preds_longbook_qa_eng_0-1.jsonl.gz"
    path.write_bytes(gzip.compress(RIGHT.encode()))
    result = only_json(run("score", "--benchmark", "infinitebench", "--predictions", path, "--json"))
    assert result == {"score": 100.0, "samples": 1}


def test_scores_with_parts(run: Run, tmp_path: Path) -> None:
    line = {"query": "?", "gt": "a summary", "x_pred": "a summary", "evaluation": "rouge"}
    path = tmp_path / "news_summ.pred.jsonl"
    path.write_text(json.dumps(line))
    result = only_json(run("score", "--benchmark", "leval", "--predictions", path, "--json"))
    assert result == {"score": 100.0, "samples": 1, "rouge1": 100.0, "rouge2": 100.0, "rougeL": 100.0}


def test_a_list_of_scores(run: Run, shared_data: Path) -> None:
    path = shared_data / "golden" / "leval" / "gpt4-32k" / "topic_retrieval_longchat.pred.jsonl.gz"
    result = only_json(run("score", "--benchmark", "leval", "--predictions", path, "--json"))
    assert result == {"score": [100.0, 100.0, 86.0], "samples": 150}


@pytest.mark.parametrize(
    ("benchmark", "task", "message"),
    [
        ("longbench", None, "unknown benchmark 'longbench': choose one of infinitebench, leval, ruler"),
        ("longbench", "qa", "unknown benchmark 'longbench'"),
        ("infinitebench", "qa", "infinitebench has no task 'qa': choose one of code_debug,"),
        ("leval", None, "the name preds_passkey.jsonl says no task of leval: give --task, one of codeU,"),
    ],
)
def test_unknown_names(run: Run, file: Path, benchmark: str, task: str | None, message: str) -> None:
    named = ("--task", task) if task else ()
    assert message in error_line(run("score", "--benchmark", benchmark, "--predictions", file, *named, "--json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RIGHT + "{'id': 1}", "preds_passkey.jsonl, line 2 is not JSON"),
        ("", "there is no prediction to score for infinitebench passkey"),
        ('{"id": 0, "ground_truth": "1"}', "line 1 has no field 'prediction' or 'pred': its fields are id,"),
    ],
)
def test_bad_files(run: Run, file: Path, text: str, message: str) -> None:
    file.write_text(text)
    assert message in error_line(run("score", "--benchmark", "infinitebench", "--predictions", file))


def test_damaged_lines_can_be_skipped(run: Run, file: Path) -> None:
    file.write_text(RIGHT + "{'id': 1}\n" + WRONG + '{"id": 3}\n')
    command = ("score", "--benchmark", "infinitebench", "--predictions", file, "--skip-damaged", "--json")
    result = run(*command)
    assert only_json(result) == {"score": 50.0, "samples": 2, "skipped": 2}
    assert "line 2 is not JSON" in result.stderr
    assert "line 4 has no field 'prediction'" in result.stderr


def test_missing_files(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "passkey.jsonl"
    assert f"cannot read {path}: No such file" in error_line(
        run("score", "--benchmark", "infinitebench", "--predictions", path)
    )
    assert run("score", "--benchmark", "infinitebench").exit_code == 2


def test_names_with_two_tasks(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "passkey-code_run.jsonl"
    path.write_text(RIGHT)
    line = error_line(run("score", "--benchmark", "infinitebench", "--predictions", path))
    assert "says several tasks of infinitebench" in line
