"""Which budget a command takes where the user leaves it open."""

from __future__ import annotations

from pathlib import Path

from transformers import LlamaConfig

from locret.cli.budget import BUILTIN, PAPER, SMOLLM2, measured_for, prompt_budget


def test_a_model_is_known_by_its_shape_under_any_name(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49152, "num_attention_heads": 9}
    LlamaConfig(**sizes, num_key_value_heads=3).save_pretrained(tmp_path / "copy")
    LlamaConfig(**{**sizes, "num_hidden_layers": 29}, num_key_value_heads=3).save_pretrained(tmp_path / "other")
    assert measured_for(str(tmp_path / "copy")) == measured_for("smollm2") == SMOLLM2
    assert measured_for(str(tmp_path / "other")) == measured_for("owner/name") == PAPER
    assert measured_for("builtin") == BUILTIN


def test_open_values_shrink_with_the_size() -> None:
    small = prompt_budget("smollm2", 32, None, None, None, "true")
    assert (small.size, small.local, small.pin_first, small.pin_newest) == (32, 8, 4, 24)
    assert prompt_budget("smollm2", 128, None, None, None, "true").pin_newest == 96
    assert prompt_budget("builtin", 128, None, None, None, "true").pin_newest == 0
    assert prompt_budget("smollm2", None, None, None, None, "true") == SMOLLM2


def test_values_that_are_given_stand() -> None:
    budget = prompt_budget("smollm2", 256, 100, 0, 3, "compact", pin_first=0, pin_newest=7)
    assert (budget.chunk, budget.local, budget.pin_first, budget.pin_newest) == (100, 3, 0, 7)
    assert budget.positions == "compact"
