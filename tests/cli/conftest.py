from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import locret
from locret.cli.app import app
from tests.eval.models import TEXT, byte_llama, byte_tokenizer

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights, with random heads beside it."""
    folder = tmp_path_factory.mktemp("model")
    model = byte_llama()
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    torch.manual_seed(0)
    locret.RetainingHeads.from_config(model.config, width=16).save_pretrained(folder / "heads")
    return folder


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "document.txt"
    path.write_text(TEXT[:900], encoding="utf-8")
    return path


@pytest.fixture
def run() -> Run:
    """Runs a command in this process; stdout and stderr are kept apart."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def error_line(result: Result) -> str:
    """The one line a failed command has written; makes sure that there was nothing else."""
    assert result.exit_code == 1, result.stderr
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("locret: ")
    return line


def only_json(result: Result) -> dict[str, Any]:
    """The one JSON object on stdout; makes sure that there was nothing else."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    loaded = json.loads(result.stdout)
    assert isinstance(loaded, dict)
    return loaded
