"""Loading by name: what cannot be loaded is refused before any weights are read."""

from __future__ import annotations

import pytest
import torch

import locret


def test_the_built_in_model_comes_with_heads_that_fit() -> None:
    model, tokenizer, heads = locret.load_builtin()
    heads.check_fits(model)
    assert model.dtype == torch.float32
    assert tokenizer.vocab_size == model.config.vocab_size


def test_a_misspelt_or_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(locret.LocretError, match="device is 'nonsense': give auto, cpu, cuda"):
        locret.load_model("builtin", device="nonsense")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(locret.LocretError, match="device is 'cuda:1', but torch sees no CUDA device"):
        locret.load_model("builtin", device="cuda:1")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(locret.LocretError, match="dtype is 'int3': choose one of auto, float32"):
        locret.load_model("builtin", dtype="int3")
