"""Which budget a command takes where the user leaves it open."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlamaConfig

from locret.cli.budget import BUILTIN, PAPER, SMOLLM2, least_size, measured_for, newest_of, prompt_budget
from locret.errors import LocretError


def test_a_model_is_known_by_its_shape_under_any_name(tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49152, "num_attention_heads": 9}
    LlamaConfig(**sizes, num_key_value_heads=3).save_pretrained(tmp_path / "copy")
    LlamaConfig(**{**sizes, "num_hidden_layers": 29}, num_key_value_heads=3).save_pretrained(tmp_path / "other")
    assert measured_for(str(tmp_path / "copy")) == measured_for("smollm2") == SMOLLM2
    assert measured_for(str(tmp_path / "other")) == measured_for("owner/name") == PAPER
    assert measured_for("builtin") == BUILTIN


@pytest.mark.parametrize(
    "name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "owner/quantised:q4/smollm2-135m-instruct-q4_k_m.gguf"]
)
def test_a_name_on_the_hub_is_known_by_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured_for(name) == SMOLLM2
    assert measured_for(name.lower().replace("135m", "360m")) == PAPER
    monkeypatch.chdir(tmp_path)
    LlamaConfig(num_hidden_layers=2).save_pretrained(tmp_path / name)
    assert measured_for(name) == PAPER  # what is here goes by its shape


def test_open_values_shrink_with_the_size() -> None:
    small = prompt_budget("smollm2", 32, None, None, None, "true")
    assert (small.size, small.local, small.pin_first, small.pin_newest) == (32, 8, 4, 16)
    assert prompt_budget("smollm2", 128, None, None, None, "true").pin_newest == 96
    assert prompt_budget("builtin", 128, None, None, None, "true").pin_newest == 0
    assert prompt_budget("smollm2", None, None, None, None, "true") == SMOLLM2


def test_open_pins_leave_a_quarter_to_choose() -> None:
    assert [newest_of(size) for size in (128, 256, 512, 1024)] == [96, 128, 256, 512]  # as results were measured
    for size in (*range(4, 113), 256, 1024):  # between these, with 96 pinned newest, it is a bit less
        budget = prompt_budget("smollm2", size, None, None, None, "true")
        assert 4 * (size - budget.pin_first - budget.pin_newest) >= size, size


@pytest.mark.parametrize("model", ["builtin", "smollm2", "owner/name"])
@pytest.mark.parametrize("name", ["stabilizers", "local", "pin_first", "pin_newest"])
@pytest.mark.parametrize("size", [1, 8, 20, 32, 64, 128])
def test_open_values_give_way_to_a_given_one(model: str, name: str, size: int) -> None:
    for value in range(size + 1):
        options = {"stabilizers": None, "local": None, "pin_first": None, "pin_newest": None, name: value}
        assert getattr(prompt_budget(model, size, None, positions="true", **options), name) == value
        assert least_size(**options) == max(1, value)


def test_given_values_that_do_not_fit_are_refused_by_their_own_names() -> None:
    with pytest.raises(LocretError, match=r"stabilizers \+ local = 60 \+ 5 = 65"):
        prompt_budget("smollm2", 64, None, 60, 5, "true")
    assert least_size(60, 5, 3, 63) == 66


def test_values_that_are_given_stand() -> None:
    budget = prompt_budget("smollm2", 256, 100, 0, 3, "compact", pin_first=0, pin_newest=7)
    assert (budget.chunk, budget.local, budget.pin_first, budget.pin_newest) == (100, 3, 0, 7)
    assert budget.positions == "compact"
