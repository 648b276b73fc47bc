from __future__ import annotations

import pytest
import torch

import locret
from locret.plan import SHAPES, find_config, setting_of, sizes_of
from locret.plan.weights import head_count
from tests.conftest import TINY_MODELS
from tests.plan.cases import wider

# As published with the weights.
PARAMETERS = {
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "phi-3-mini-128k": 3_821_079_552,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen3-8b": 8_190_735_360,
    "gemma-3-12b": 11_766_034_176,
}


@pytest.mark.parametrize("family", TINY_MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bytes_are_those_of_the_model(family: str, dtype: torch.dtype) -> None:
    model = wider(family, dtype)
    counted = sizes_of(model.config).weights
    assert counted.nbytes(dtype.itemsize) == sum(weight.nbytes for weight in model.parameters())


@pytest.mark.parametrize("name", PARAMETERS)
def test_shapes_have_the_published_number_of_parameters(name: str) -> None:
    assert sizes_of(find_config(name)).weights.total == PARAMETERS[name]


def test_only_the_shapes_for_trials_are_not_published() -> None:
    assert set(SHAPES) - set(PARAMETERS) == {"llama-60m", "llama-150m", "phi3-100m"}


def test_heads_are_counted() -> None:
    config = wider("gemma3_text").config
    heads = locret.RetainingHeads.from_config(config, width=24)
    assert head_count(sizes_of(config).shapes, 24) == sum(weight.numel() for weight in heads.parameters())


def test_a_token_goes_through_the_experts_it_is_sent_to() -> None:
    weights = sizes_of(wider("mixtral").config).weights
    experts = 3 * 3 * 3 * 96 * 256  # layers, experts, maps
    assert weights.linear - weights.active == experts // 3
    assert weights.packable == weights.linear - experts - 3 * 3 * 96  # nor is the router an nn.Linear


def test_packed_weights_have_scales() -> None:
    weights = sizes_of(wider("llama").config).weights
    assert weights.packable == weights.linear
    rest = 2 * (weights.total - weights.packable)
    assert weights.nbytes(2, 4) == rest + weights.packable // 2 + weights.packable // 64 * 4
    assert weights.nbytes(2, 8) == rest + weights.packable + weights.rows * 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int3"}, "dtype is 'int3'"),
        ({"kv_bits": 3}, "KV bits are 3: choose 32 (the dtype) or 2, 4, 8"),
        ({"weight_bits": 16}, "weight bits are 16: choose 32 (the dtype) or 4, 8"),
        ({"policy": "none"}, "unknown part 'none'"),
        ({"policy": "locret+quant4", "kv_bits": 8}, "has bits of its own"),
        ({"policy": "minference"}, "what attention 'minference' takes depends on the prompt"),
    ],
)
def test_bad_settings_are_named(options: dict, words: str) -> None:
    with pytest.raises(locret.LocretError) as error:
        setting_of(wider("llama").config, **options)
    assert words in str(error.value)


def test_unknown_models_are_told_the_shapes() -> None:
    with pytest.raises(locret.LocretError, match=r"or name a shape: llama-3\.1-8b"):
        find_config("no/such")
