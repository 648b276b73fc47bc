from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from locret.cli.train import train_command
from locret.errors import LocretError
from locret.models.heads import RetainingHeads
from tests.train.commands import train_arguments

app = typer.Typer()
app.command("train")(train_command)
FIELDS = {"steps", "loss", "recall", "seconds", "out"}


def call(model: Path, data: Path, out: Path, *more: str) -> str:
    arguments = train_arguments(model, data, out, 4, *more)[2:]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_json_has_the_promised_fields(model_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "heads"
    summary = json.loads(call(model_folder, data, out, "--objective", "softmax"))
    assert summary.keys() == FIELDS
    assert (summary["steps"], summary["out"]) == (4, str(out))
    config = RetainingHeads.from_pretrained(out).config
    assert (config.objective, config.width) == ("softmax", 16)
    assert config.fingerprint


def test_several_files_and_resume(model_folder: Path, data: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text('{"prompt": "w1 w2 w3", "answer": "w4"}\n')
    for options in ((), ("--resume",)):
        call(model_folder, data, tmp_path / "out", str(more), "--data", str(data), *options)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["steps"] == 4


def test_errors_reach_the_app(model_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(LocretError, match=r"missing.jsonl"):
        call(model_folder, tmp_path / "missing.jsonl", tmp_path / "out")
    with pytest.raises(LocretError, match="retaining heads"):
        call(model_folder, data, tmp_path / "out", "--heads", str(tmp_path))
    with pytest.raises(LocretError, match="device is 'nonsense'"):
        call(model_folder, data, tmp_path / "out", "--device", "nonsense")
    assert not (tmp_path / "out").exists()
