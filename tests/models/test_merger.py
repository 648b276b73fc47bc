from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import locret
from locret.models.fingerprint import fingerprint_of
from locret.models.merger import CONFIG, WEIGHTS, Merger, merge
from tests.conftest import tiny_llama


@pytest.fixture
def merger() -> Merger:
    model = tiny_llama()
    torch.manual_seed(1)
    made = Merger.from_config(model.config, 3, 5, fingerprint_of(model))
    made.config = replace(made.config, objective="a test")
    return made


def test_it_comes_back_as_it_was_saved(merger: Merger, tmp_path: Path) -> None:
    merger.save_pretrained(tmp_path / "new")
    again = Merger.from_pretrained(tmp_path / "new")
    assert again.config == merger.config
    assert all(torch.equal(one, other) for one, other in zip(again.layers, merger.layers, strict=True))
    again.check_fits(tiny_llama())
    assert {path.name for path in (tmp_path / "new").iterdir()} == {WEIGHTS, CONFIG}


def test_another_model_is_refused(merger: Merger) -> None:
    with pytest.raises(locret.LocretError, match="trained on other weights"):
        merger.check_fits(tiny_llama(seed=5))
    with pytest.raises(locret.LocretError, match="layers is 3, the model has 2"):
        merger.check_fits(tiny_llama(num_hidden_layers=2))
    merger.config = replace(merger.config, objective="")
    with pytest.raises(locret.LocretError, match=r"not trained, .* python -m recipes\.merger"):
        merger.check_fits(tiny_llama())


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("no folder", "holds no merger"),
        ("no weights", "missing, damaged"),
        ("cut weights", "missing, damaged"),
        ("bad config", "not a configuration"),
        ("no object", "not a configuration"),
        ("other config", "do not belong together"),
    ],
)
def test_damage_is_named(merger: Merger, tmp_path: Path, harm: str, words: str) -> None:
    merger.save_pretrained(tmp_path)
    weights, config = tmp_path / WEIGHTS, tmp_path / CONFIG
    if harm == "no weights":
        weights.unlink()
    elif harm == "cut weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif harm == "bad config":
        config.write_text("{", encoding="utf-8")
    elif harm == "no object":
        config.write_text("[]", encoding="utf-8")
    elif harm == "other config":
        config.write_text(json.dumps({**json.loads(config.read_text()), "slots": 4}), encoding="utf-8")
    with pytest.raises(locret.LocretError, match=words):
        Merger.from_pretrained(tmp_path / "none" if harm == "no folder" else tmp_path)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(locret.LocretError, match="slots is 0"):
        Merger.from_config(tiny_llama().config, 0)
    with pytest.raises(locret.LocretError, match="kernel is 4"):
        Merger.from_config(tiny_llama().config, 3, 4)


def test_only_units_that_are_alive_are_merged() -> None:
    weight = torch.randn(2, 3, 8, 5)
    units, alive = torch.randn(1, 2, 12, 8), torch.ones(1, 2, 12, dtype=torch.bool)
    alive[:, :, :4] = False
    changed = torch.where(alive[..., None], units, torch.randn_like(units))
    assert torch.equal(merge(weight, units, alive), merge(weight, changed, alive))
    inside = merge(weight, units.clamp(0, 1), alive)
    assert inside.min() >= 0 and inside.max() <= 1  # a mean
    assert not merge(weight, units, torch.zeros_like(alive)).any()
