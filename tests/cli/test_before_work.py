"""Commands say what cannot work before they load or read anything, and write no answer out of no numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.cli.conftest import Run, error_line

WINDOW = 4096  # of the tiny model


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any) -> None:
        raise AssertionError("something was read")

    monkeypatch.setattr("locret.engine.engine.Engine._read", read)


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **options: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("locret.cli.loading.load_model", load)


@pytest.mark.usefixtures("nothing_is_read")
def test_generate_counts_prompt_and_answer_first(run: Run, model_folder: Path, tmp_path: Path) -> None:
    ids, options = tmp_path / "ids.json", ("generate", "--model", model_folder, "--budget", 64, "--max-new-tokens", 20)
    ids.write_text(json.dumps([9] * (WINDOW - 10)), encoding="utf-8")
    line = error_line(run(*options, "--prompt-ids", ids))
    assert f"{WINDOW - 10} tokens and an answer of up to 20 are more than the model's window of {WINDOW}" in line
    document = tmp_path / "document.txt"
    document.write_text("The mill. " * (WINDOW // 10 - 4), encoding="utf-8")
    line = error_line(run(*options, "--document", document, "--question", "Who asked for it?"))
    assert "and an answer of up to 20 are more" in line


@pytest.mark.usefixtures("nothing_is_loaded")
@pytest.mark.parametrize(
    "options, message",
    [
        (("--stop", ""), "a stop string is '': give text"),
        (("--top-p", 0.5), "top_p is 0.5 and temperature is 0"),
        (("--temperature", "nan"), "temperature is nan: give 0"),
    ],
)
def test_generate_looks_at_its_options_first(run: Run, document: Path, options: tuple[Any, ...], message: str) -> None:
    assert message in error_line(run("generate", "--prompt-file", document, *options))


@pytest.mark.usefixtures("nothing_is_loaded")
def test_places_that_cannot_be_written_are_refused_first(run: Run, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine", encoding="utf-8")
    assert f"{tmp_path} is a folder" in error_line(run("demo", "--out", tmp_path))
    assert f"{taken} is a file" in error_line(run("demo", "--out", taken / "demo.png"))
    assert f"{taken} is a file" in error_line(run("eval", "--out", tmp_path / "run", "--kvpress-output", taken))
    assert taken.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("sampling", [(), ("--temperature", 1)])
def test_a_model_that_overflows_writes_no_answer(
    run: Run, model_folder: Path, document: Path, tmp_path: Path, sampling: tuple[Any, ...]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    model = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        model.lm_head.weight[7] = torch.inf
    model.save_pretrained(broken)
    options = ("--model", broken, "--prompt-file", document, "--policy", "full", "--max-new-tokens", 3, "--budget", 64)
    line = error_line(run("generate", *options, *sampling))
    assert "the model's predictions are no numbers" in line
    assert "load it in bfloat16 or float32" in line
