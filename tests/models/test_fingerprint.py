"""Fingerprints: the same weights in fewer bits are known again, other weights are refused, by wide margins."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from torch import Tensor, nn
from transformers import LlamaForCausalLM

import locret
from locret.models.checkpoint import BUILTIN
from locret.models.families import attention_modules, family_of, list_families
from locret.models.fingerprint import (
    FAR,
    NEAR,
    ROUNDING,
    distance,
    distance_to,
    fingerprint_of,
    fingerprint_of_weights,
    old_fingerprint_of,
    sampled_layers,
)
from tests.conftest import TINY_MODELS, tiny_llama

IN_4_BITS = 0.006


def model_of(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """Rows of 96 numbers, as quantisers work on groups of 32."""
    return tiny_llama(seed, **{"hidden_size": 96, **changes})


def heads_of(fingerprint: tuple[float, ...]) -> locret.RetainingHeads:
    return locret.RetainingHeads.from_config(model_of().config, width=8, fingerprint=fingerprint)


def changed(model: LlamaForCausalLM, change: Callable[[Tensor], Tensor]) -> LlamaForCausalLM:
    for module in attention_modules(model):
        module.v_proj.weight.data = change(module.v_proj.weight.data)
    return model


def packed(kind: str) -> Callable[[Tensor], Tensor]:
    packing = GGMLQuantizationType[kind]
    return lambda weight: torch.from_numpy(dequantize(quantize(weight.numpy(), packing), packing))


def noisy(part: float) -> Callable[[Tensor], Tensor]:
    """A relative error of `part` in every weight, which is a distance of part^2 / 2."""
    signs = torch.Generator().manual_seed(0)
    return lambda weight: weight * (1 + part * (2.0 * torch.randint(0, 2, weight.shape, generator=signs) - 1))


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda weight: weight.bfloat16().float(), ROUNDING / 3),
        (lambda weight: weight.half().float(), ROUNDING / 3),
        (packed("Q8_0"), 1e-4),
        (packed("Q5_0"), IN_4_BITS / 3),
        (packed("Q4_0"), IN_4_BITS),
        (packed("Q4_1"), IN_4_BITS),
    ],
)
def test_copies_in_fewer_bits_are_far_inside(change: Callable[[Tensor], Tensor], most: float) -> None:
    apart = distance(fingerprint_of(model_of()), fingerprint_of(changed(model_of(), change)))
    assert apart <= most < NEAR / 3


@pytest.mark.parametrize(
    "other",
    [
        lambda: model_of(seed=1),
        lambda: changed(model_of(), lambda weight: weight.roll(8, 0)),  # another KV head's rows
        lambda: changed(model_of(), lambda weight: weight.flip(1)),
        lambda: changed(model_of(), torch.neg),
    ],
)
def test_other_weights_are_far_outside(other: Callable[[], LlamaForCausalLM]) -> None:
    apart = distance(fingerprint_of(model_of()), fingerprint_of(other()))
    assert apart > 5 * FAR
    with pytest.raises(locret.LocretError, match="fingerprints differ"):
        heads_of(fingerprint_of(model_of())).check_fits(other())


def test_weights_of_another_scale_are_others() -> None:
    assert distance(fingerprint_of(model_of()), fingerprint_of(changed(model_of(), lambda w: 2 * w))) > FAR


def fits_without_a_word(model: LlamaForCausalLM) -> bool:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        heads_of(fingerprint_of(model_of())).check_fits(model)
    assert all("near those of the training" in str(warning.message) for warning in found)
    return not found


def test_a_fine_tuned_copy_is_taken_with_a_warning() -> None:
    model = model_of().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids = torch.arange(1, 65)[None]
    for _ in range(5):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    apart = distance_to(fingerprint_of(model_of()), model)
    assert apart is not None and ROUNDING < apart < NEAR
    assert not fits_without_a_word(model)


def test_how_near_weights_must_be_depends_on_what_is_known_of_them() -> None:
    assert fits_without_a_word(changed(model_of(), noisy(0.002)))
    four_bits = changed(model_of(), packed("Q4_0"))
    assert not fits_without_a_word(four_bits)  # might as well be fine-tuned
    four_bits.config.dequantised = True
    assert fits_without_a_word(four_bits)
    two_bits = changed(model_of(), noisy(0.3))
    two_bits.config.dequantised = True
    assert not fits_without_a_word(two_bits)


class Wrapped(nn.Linear):
    """A layer that is more than its weight, as adapters and packed weights are."""


@pytest.mark.parametrize("family", list_families())
def test_every_way_to_the_weights_gives_the_same(family: str) -> None:
    model = TINY_MODELS[family]()
    name = family_of(model.config).projections[-1]
    modules = [module.get_submodule(name) for module in attention_modules(model)]
    read = fingerprint_of(model)
    assert read == fingerprint_of_weights(modules[layer].weight for layer in sampled_layers(len(modules)))
    for module in modules:
        module.__class__ = Wrapped
        module.bias = nn.Parameter(torch.randn(len(module.weight)))
    computed = fingerprint_of(model)
    assert computed == pytest.approx(read, abs=1e-4)
    assert distance(read, computed) < 1e-7


def test_an_adapter_is_part_of_the_weights() -> None:
    class Adapted(Wrapped):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) + 0.1 * inputs[..., : self.out_features]

    model = model_of()
    for module in attention_modules(model):
        module.v_proj.__class__ = Adapted
    merged = changed(model_of(), lambda weight: weight + 0.1 * torch.eye(*weight.shape))
    assert distance(fingerprint_of(merged), fingerprint_of(model)) < 1e-7


def test_layers_of_all_depths_are_looked_at() -> None:
    assert sampled_layers(3) == [0, 1, 2]
    assert sampled_layers(32) == list(range(0, 32, 2))
    assert len(sampled_layers(61)) == 16 and sampled_layers(61)[-1] > 56
    one, other = (model_of(num_hidden_layers=20, intermediate_size=8) for _ in range(2))
    for module in attention_modules(other)[16:]:
        nn.init.normal_(module.v_proj.weight, std=0.3)
    assert len(fingerprint_of(one)) == 16 * 32
    assert distance(fingerprint_of(one), fingerprint_of(other)) > FAR


def test_files_stay_small_and_lines_few(tmp_path: Path) -> None:
    model = model_of(num_hidden_layers=20, intermediate_size=8)
    heads = locret.RetainingHeads.from_config(model.config, width=8, fingerprint=fingerprint_of(model))
    heads.save_pretrained(tmp_path)
    text = (tmp_path / "heads.json").read_text()
    assert len(text) < 6000 and len(text.splitlines()) < 15
    assert locret.RetainingHeads.from_pretrained(tmp_path).config == heads.config


@pytest.fixture
def old_heads(tmp_path: Path) -> locret.RetainingHeads:
    """Heads whose file is of format 1."""
    heads_of(()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "heads.json").read_text())
    samples = [
        float(f"{x:.6g}")
        for module in attention_modules(model_of())
        for x in module.v_proj.weight.flatten()[:: 16 * 96 // 4].tolist()
    ]
    (tmp_path / "heads.json").write_text(json.dumps({**config, "format": 1, "fingerprint": samples}))
    return locret.RetainingHeads.from_pretrained(tmp_path)


def test_old_files_are_checked_by_their_own_samples(old_heads: locret.RetainingHeads) -> None:
    assert old_heads.config.fingerprint == old_fingerprint_of(model_of())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old_heads.check_fits(model_of())
        four_bits = changed(model_of(), packed("Q4_0"))
        four_bits.config.dequantised = True
        old_heads.check_fits(four_bits)
    with pytest.raises(locret.LocretError, match="fingerprints differ"):
        old_heads.check_fits(model_of(seed=1))


def test_a_fingerprint_of_another_length_is_of_other_weights() -> None:
    with pytest.raises(locret.LocretError, match="fingerprints differ"):
        heads_of((0.5, 0.25)).check_fits(model_of())


def test_the_built_in_heads_know_their_model_exactly() -> None:
    model, _, heads = locret.load_builtin()
    assert json.loads((BUILTIN / "heads" / "heads.json").read_text())["format"] == 2
    assert heads.config.fingerprint == fingerprint_of(model)
