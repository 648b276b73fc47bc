"""Quantised backbones: retaining heads read the projections' outputs, so they go on as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import locret
from locret.models.fingerprint import NEAR, distance_to, fingerprint_of
from tests.eval.models import byte_llama, byte_tokenizer

BUDGET = locret.Budget(size=60, chunk=64, stabilizers=8, local=8)
IDS = torch.randint(1, 250, (1, 300), generator=torch.Generator().manual_seed(1))
CHANCE = 60 / 292
SIZES: Any = {"hidden_size": 64, "head_dim": 16, "num_attention_heads": 4, "intermediate_size": 128,
              "initializer_range": 0.1}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with heads that know its fingerprint. Rows of 64 numbers, as quantisers work on groups."""
    path = tmp_path_factory.mktemp("model")
    model = byte_llama(**SIZES)
    model.save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    torch.manual_seed(0)
    heads = locret.RetainingHeads.from_config(model.config, width=16, fingerprint=fingerprint_of(model))
    heads.save_pretrained(path / "heads")
    return path


def heads_of_others(model: Any) -> locret.RetainingHeads:
    """Heads of a model of the same shape with other weights."""
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(byte_llama(**SIZES).config)
    return locret.RetainingHeads.from_config(model.config, width=16, fingerprint=fingerprint_of(other))


def read(model: Any, heads: locret.RetainingHeads) -> locret.Session:
    engine = locret.Engine(model, policy=locret.get_policy("locret", heads=heads), budget=BUDGET)
    session = engine.prefill(IDS)
    assert len(engine.generate(session, 8).token_ids) == 8
    return session


def agreement(one: locret.Session, other: locret.Session) -> float:
    """The part of the kept units that both keep, in the mean over layers and heads."""
    shared = [
        len(set(a.tolist()) & set(b.tolist())) / len(a)
        for layer in range(3)
        for a, b in zip(one.cache.kept_positions(layer)[0], other.cache.kept_positions(layer)[0], strict=True)
    ]
    return sum(shared) / len(shared)


def check_quantised(model: Any, heads: locret.RetainingHeads, folder: Path, least: float) -> None:
    apart = distance_to(heads.config.fingerprint, model)
    assert apart is not None and apart < NEAR / 2
    with pytest.raises(locret.LocretError, match="fingerprints differ"):
        heads_of_others(model).check_fits(model)
    dtype = model.dtype
    plain, _, own = locret.load_model(str(folder), device="cpu", dtype=str(dtype).removeprefix("torch."))
    assert own is not None
    expected, found = read(plain, own), read(model, heads)
    beside: Any = found.cache.reading.policy
    assert {p.dtype for p in beside.heads.parameters()} == {dtype}
    assert {p.dtype for p in heads.parameters()} == {p.dtype for p in own.parameters()}  # a copy is cast, not these
    assert found.logits.isfinite().all()
    assert agreement(found, expected) > least > CHANCE


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("bits", "least"), [(8, 0.9), (4, 0.6)])
def test_weights_quantised_while_loading_keep_much_the_same_units(
    folder: Path, bits: int, least: float, dtype: str
) -> None:
    pytest.importorskip("bitsandbytes")
    model, _, heads = locret.load_model(str(folder), device="cpu", dtype=dtype, weight_bits=bits)
    assert heads is not None
    weight = model.model.layers[0].mlp.up_proj.weight
    assert weight.nbytes == 64 * 128 * bits // 8
    check_quantised(model, heads, folder, least)


def test_a_model_that_was_quantised_by_torchao(folder: Path) -> None:
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    config = TorchAoConfig(Int8WeightOnlyConfig(version=2))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=config)
    assert model.model.layers[0].self_attn.v_proj.weight.is_floating_point()  # as which it poses
    check_quantised(model, locret.RetainingHeads.from_pretrained(folder / "heads"), folder, 0.9)


@pytest.mark.gpu
@pytest.mark.parametrize(("bits", "least"), [(8, 0.9), (4, 0.6)])
def test_weights_quantised_on_cuda(folder: Path, bits: int, least: float) -> None:
    pytest.importorskip("bitsandbytes")
    model, _, heads = locret.load_model(str(folder), device="cuda", dtype="bfloat16", weight_bits=bits)
    assert heads is not None
    check_quantised(model, heads, folder, least)


def test_what_cannot_be_quantised_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(locret.LocretError, match="weight bits are 5: give 4 or 8"):
        locret.load_model(str(folder), weight_bits=5)
    monkeypatch.setattr("locret.models.quantisation.find_spec", lambda name: None)
    with pytest.raises(locret.LocretError, match=r"need bitsandbytes: pip install 'locret\[quant\]'"):
        locret.load_model("no/such-model", weight_bits=4)
