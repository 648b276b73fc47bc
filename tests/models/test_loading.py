"""Loading by name: what cannot be loaded is refused before any weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import locret
from locret.models.placement import find_device
from tests.conftest import tiny_llama
from tests.eval.models import byte_tokenizer


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


@pytest.mark.parametrize(
    "name", ["", "xla", "meta", "mkldnn", "CPU", "gpu", "cpu:x", "cuda:-1", "cuda:0:1", "privateuseone", "x" * 5000]
)
def test_devices_that_no_model_runs_on_are_refused(name: str) -> None:
    with pytest.raises(locret.LocretError, match=r"device is .*: give auto, cpu, cuda, or one of several as cuda:1$"):
        find_device(name)


@pytest.mark.skipif(torch.xpu.is_available(), reason="this machine has one")
def test_a_device_that_torch_was_built_without_is_refused() -> None:
    with pytest.raises(locret.LocretError, match=r"device is 'xpu' \(.+\): give auto"):
        find_device("xpu")


def test_a_device_keeps_the_name_it_was_given() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(locret.LocretError, match="dtype is 'int3': choose one of auto, float32"):
        locret.load_model("builtin", dtype="int3")


def test_a_model_is_loaded_in_parts(tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "cpu"}
    places |= {"model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    split, _, _ = locret.load_model(str(tmp_path), device_map=places)
    assert split.model.layers[1].mlp.up_proj.weight.is_meta
    ids = torch.randint(1, 97, (1, 100), generator=torch.Generator().manual_seed(0))
    logits = [
        locret.Engine(m, policy=locret.get_policy("full"), budget=locret.Budget(64, 32)).prefill(ids).logits
        for m in (model, split)
    ]
    torch.testing.assert_close(*logits)
    whole, _, _ = locret.load_model(str(tmp_path), device_map="auto")
    assert not whole.training


def test_a_device_and_a_map_of_devices_are_refused_together() -> None:
    with pytest.raises(locret.LocretError, match="device is 'cpu' and device_map is 'auto': give one of them"):
        locret.load_model("builtin", device="cpu", device_map="auto")
