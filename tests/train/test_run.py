from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from transformers import LlamaForCausalLM

from locret.errors import LocretError
from locret.folders import alone_in
from locret.models.heads import RetainingHeads
from locret.train.config import TrainConfig
from locret.train.loop import StepReport
from locret.train.records import read_records
from locret.train.run import Summary, Watch, train_heads
from tests.conftest import tiny_llama
from tests.train.tiny import token_records, write_lines

CONFIG = TrainConfig(steps=12, lr=3e-3, width=16, max_length=64, batch_size=2)


def train(model: LlamaForCausalLM, data: Path, out: Path, config: TrainConfig = CONFIG, **options: Any) -> Summary:
    options = {"save_every": 4, **options}
    return train_heads(model, None, config, read_records([data]), out, Accelerator(cpu=True), **options)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(RetainingHeads.from_pretrained(folder).state_dict())


def assert_same_weights(one: Path, other: Path) -> None:
    theirs = weights(other)
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, theirs[name]), name


class StoppedError(Exception):
    """Stands for a kill between two steps."""


def stop_after(step: int) -> Watch:
    def look(report: StepReport) -> None:
        if report.step == step:
            raise StoppedError

    return Watch(step=look)


def test_a_run_leaves_heads_log_and_summary(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    summary = train(model, data, tmp_path / "run")
    heads = RetainingHeads.from_pretrained(tmp_path / "run")
    heads.check_fits(model)
    assert (heads.config.objective, heads.config.width) == ("logits", 16)
    with pytest.raises(LocretError, match="other weights"):
        heads.check_fits(tiny_llama(seed=9))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert summary.steps == 12
    assert summary.loss == pytest.approx(sum(row["loss"] for row in rows) / 12)
    assert rows[-1]["lr"] == pytest.approx(CONFIG.lr / 4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.config._attn_implementation == "sdpa"


def test_the_seed_reproduces(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name))
        train(model, data, tmp_path / name, replace(CONFIG, seed=seed, steps=3))
    assert_same_weights(tmp_path / "a", tmp_path / "b")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("stop", [1, 3, 4, 7, 11])
def test_a_stopped_run_resumes_exactly(stop: int, model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    train(model, data, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(model, data, tmp_path / "parts", watch=stop_after(stop))
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"step": 9')  # a kill in the middle of a line
    summary = train(model, data, tmp_path / "parts", resume=True)
    assert summary.steps == 12
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]


def test_resuming_a_finished_run_or_an_absent_one_is_fine(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    first = train(model, data, tmp_path / "run", resume=True)
    again = train(model, data, tmp_path / "run", resume=True)
    assert (again.loss, again.recall, again.steps) == (first.loss, first.recall, first.steps)


def test_a_folder_in_use_is_refused(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    train(model, data, tmp_path / "run", replace(CONFIG, steps=1))
    with pytest.raises(LocretError, match="training run already: add --resume"):
        train(model, data, tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    for resume in (False, True):
        with pytest.raises(LocretError, match=r"holds thesis.tex and no training run"):
            train(model, data, tmp_path / "other", resume=resume)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]
    with pytest.raises(LocretError, match="is a file"):
        train(model, data, data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1e-3}, "lr was 0.003, now it is 0.001"),
        ({"seed": 7}, "seed was 42, now it is 7"),
        ({"objective": "softmax"}, 'objective was "logits"'),
        ({"steps": 20}, "steps was 12, now it is 20"),
    ],
)
def test_another_configuration_does_not_resume(
    change: dict[str, Any], message: str, model: LlamaForCausalLM, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(model, data, tmp_path / "run", watch=stop_after(5))
    changed = replace(CONFIG, warmup=8, **change)
    with pytest.raises(LocretError, match=message):
        train(model, data, tmp_path / "run", changed, resume=True)


def test_other_data_another_model_or_other_first_heads_do_not_resume(
    model: LlamaForCausalLM, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        train(model, data, tmp_path / "run", watch=stop_after(5))
    other = write_lines(tmp_path / "other.jsonl", token_records(7, seed=5))
    with pytest.raises(LocretError, match="data was"):
        train(model, other, tmp_path / "run", resume=True)
    with pytest.raises(LocretError, match="model_weights was"):
        train(tiny_llama(seed=3), data, tmp_path / "run", resume=True)
    start = RetainingHeads.from_config(model.config, width=16)
    with pytest.raises(LocretError, match="start was null"):
        train(model, data, tmp_path / "run", resume=True, start=start)
    moved = shutil.copy(data, tmp_path / "moved.jsonl")
    train(model, Path(moved), tmp_path / "run", resume=True)


def test_training_goes_on_from_given_heads(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    train(model, data, tmp_path / "first")
    start = RetainingHeads.from_pretrained(tmp_path / "first")
    config = replace(CONFIG, steps=1, lr=1e-9, width=99, objective="softmax")
    train(model, data, tmp_path / "second", config, start=start)
    after = RetainingHeads.from_pretrained(tmp_path / "second")
    assert (after.config.width, after.config.objective) == (16, "softmax")
    for name, tensor in start.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], tensor)


def test_a_batch_smaller_than_the_processes_is_refused(
    model: LlamaForCausalLM, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "num_processes", 3)
    with pytest.raises(LocretError, match="batch_size is 2: 3 processes need at least 3 samples"):
        train(model, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_than_the_window_is_cut_and_said(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    config = replace(CONFIG, steps=1, max_length=10_000)
    train(model, data, tmp_path / "run", config, watch=Watch(notice=said.append))
    assert "cut to 512 tokens, the model's window, not 10000" in said[0]


@pytest.mark.parametrize("objective", ["logits", "softmax", "log_softmax"])
def test_heads_learn_what_is_attended_to(objective: str, model: LlamaForCausalLM, tmp_path: Path) -> None:
    """Scores fitted to a few samples rank these samples' units as the labels do."""
    records = [{**r, "answer_spans": [[60, 64]]} for r in token_records(2, seed=1, length=64)]
    data = write_lines(tmp_path / "few.jsonl", records)
    config = replace(CONFIG, objective=objective, steps=150, lr=1e-2, width=64, smoothness=0.0)
    train(model, data, tmp_path / "run", config, save_every=1000)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    recalls = [json.loads(line)["recall"] for line in lines]
    assert recalls[0] < 0.4
    assert sum(recalls[-10:]) / 10 > 0.8


def test_one_process_trains_in_a_folder(model: LlamaForCausalLM, data: Path, tmp_path: Path) -> None:
    with alone_in(tmp_path / "run"), pytest.raises(LocretError, match="another process is writing into"):
        train(model, data, tmp_path / "run")
    train(model, data, tmp_path / "run", replace(CONFIG, steps=1))
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"heads.json", "run.json"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("run.json", "null", r"run\.json is damaged \(null is no JSON object\): choose another --out"),
        ("run.json", "[" * 100_000, r"run\.json is damaged"),
        ("checkpoints/step-00000004/state.json", "[]", r"no checkpoint .* usable .*\[\] is no JSON object"),
        ("checkpoints/step-00000004/state.json", '{"step": "4", "sha256": {}}', 'step is "4", which is no int'),
        ("checkpoints/step-00000004/state.json", '{"step": 4, "sha256": {}}', "does not know all files"),
        ("checkpoints/step-00000004/state.json", '{"step": 4, "sha256": ["x"]}', "sha256 is"),
    ],
)
def test_files_of_a_run_that_are_damaged_are_named(
    name: str, text: str, words: str, model: LlamaForCausalLM, data: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=4)
    train(model, data, tmp_path / "run", config)
    (tmp_path / "run" / name).write_text(text)
    with pytest.raises(LocretError, match=words):
        train(model, data, tmp_path / "run", config, resume=True)


@pytest.mark.parametrize("line", ["null", "{}", '{"step": "2"}', "[" * 100_000, '{"step": 3}'])
def test_the_loss_curve_ends_at_a_line_that_is_no_step(
    line: str, model: LlamaForCausalLM, data: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=4)
    train(model, data, tmp_path / "run", config)
    path = tmp_path / "run" / "log.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, lines[3]]))
    summary = train(model, data, tmp_path / "run", config, resume=True)
    assert summary.loss == pytest.approx(sum(json.loads(one)["loss"] for one in lines[:2]) / 2)
