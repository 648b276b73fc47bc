"""What is wrong with any record or with the folder is said before the first step, with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from locret.cli.train import train_command
from locret.errors import LocretError
from locret.train.config import TrainConfig
from locret.train.records import read_records
from locret.train.run import train_heads
from locret.train.streaming import Measures
from tests.train.tiny import token_records, write_lines

CONFIG = TrainConfig(steps=2, width=8, max_length=64)
TALK = {"messages": [{"role": "user", "content": "w1 w2 w3"}, {"role": "assistant", "content": "w4"}]}
TOLD = {"messages": [*TALK["messages"], *TALK["messages"]]}
STRICT = (
    "{% if messages | length > 2 %}{{ raise_exception('one turn only') }}{% endif %}"
    "{% for m in messages %}{{ m.content + ' ' }}{% endfor %}"
)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown token": ({"input_ids": [5, 6, 97, 7], "answer_spans": [[3, 4]]}, "token 97 is unknown to the model"),
    "refused turns": (TOLD, r"the chat template refuses the message \(one turn only\)"),
    "no prompt": ({"prompt": " ", "answer": "w1"}, "after cutting to 64 tokens there is no prompt or no answer left"),
}


def train(model: Any, tokenizer: Any, data: Path, out: Path, **options: Any) -> Any:
    return train_heads(model, tokenizer, CONFIG, read_records([data]), out, Accelerator(cpu=True), **options)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_that_no_step_would_draw(
    name: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    record, message = BAD[name]
    tokenizer.chat_template = STRICT
    good: list[dict[str, object]] = [TALK] * 30
    data = write_lines(tmp_path / "data.jsonl", [*good[:17], record, *good[17:]])
    with pytest.raises(LocretError, match=rf"data.jsonl:18: bad training record: {message}"):
        train(model, tokenizer, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()  # not one step, and nothing left
    mended = write_lines(tmp_path / "data.jsonl", good)
    assert train(model, tokenizer, mended, tmp_path / "run", resume=True).steps == 2


@pytest.mark.parametrize("template", ["{{ messages[0].content + 1 }}", "{% for m in messages %}"])
def test_a_damaged_template_is_no_traceback(
    template: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.chat_template = template
    data = write_lines(tmp_path / "data.jsonl", [TALK])
    with pytest.raises(LocretError, match=r"data.jsonl:1: bad training record: the chat template refuses"):
        train(model, tokenizer, data, tmp_path / "run")


def test_booleans_are_no_token_ids(tmp_path: Path) -> None:
    for record in (
        {"input_ids": [5, True, 7, 8], "answer_spans": [[2, 4]]},
        {"input_ids": [5, 6, 7, 8], "answer_spans": [[True, 4]]},
    ):
        data = write_lines(tmp_path / "data.jsonl", [record])
        with pytest.raises(LocretError, match=r"data.jsonl:1: bad training record"):
            read_records([data])


def test_the_folder_is_looked_at_before_the_model_is_loaded(data: Path, tmp_path: Path) -> None:
    """There is no such model, so an error about it would say that it was looked for."""
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine", encoding="utf-8")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}", encoding="utf-8")
    for out, message in (
        (used, "holds notes.txt and no training run"),
        (used / "notes.txt", "is a file: --out takes a folder"),
        (used / "notes.txt" / "run", "notes.txt is a file: choose another folder"),
        (run, "holds a training run already: add --resume"),
    ):
        with pytest.raises(LocretError, match=message):
            train_command([str(data)], out, model=str(tmp_path / "no-model"), device="cpu", steps=1)


def test_a_run_of_good_records_is_not_held_up(model: LlamaForCausalLM, tmp_path: Path) -> None:
    data = write_lines(tmp_path / "data.jsonl", token_records(3))
    assert train(model, None, data, tmp_path / "run").steps == 2


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_heads_are_not_made_of_gradients_that_are_no_numbers(
    wrong: float, model: LlamaForCausalLM, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accumulate(model: Any, heads: Any, *_: Any) -> Measures:
        for parameter in heads.parameters():
            parameter.grad = torch.zeros_like(parameter)
        heads.layers[1].fc2.weight.grad[0, 3] = wrong
        return Measures(1.0, 0.0, 0.5)

    monkeypatch.setattr("locret.train.loop.accumulate_gradients", accumulate)
    with pytest.raises(LocretError, match="the gradients of step 1 are no numbers"):
        train(model, None, data, tmp_path / "run", save_every=1)
    assert not list((tmp_path / "run").rglob("*.safetensors"))
