"""Shared fixtures: tiny random models of every supported family, and the data that lies beside a checkout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import locret
import locret.policies

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data beside the checkout; tests that need it are skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("the data folder ../shared/data is not here")
    return SHARED


SETTINGS = {
    "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip


def tiny_llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """A random Llama with grouped queries, small enough for a test."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**SETTINGS, "rope_theta": 10000.0, **changes})).eval()


def tiny(model_type: str, **changes: object) -> Callable[..., PreTrainedModel]:
    """A maker of a random model of another family in the same sizes."""

    def make(seed: int = 0, **more: object) -> PreTrainedModel:
        torch.manual_seed(seed)
        config = CONFIG_MAPPING[model_type](**{**SETTINGS, **changes, **more})
        return AutoModelForCausalLM.from_config(config).eval()

    return make


LONG_ROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 128,
    "short_factor": [1.0, 1.1, 1.3, 1.2], "long_factor": [1.5, 2.5, 4.0, 8.0],
}  # fmt: skip


# Options that fit the budgets of tests, or without which a policy would be another one.
POLICY_OPTIONS: dict[str, dict[str, Any]] = {"locret_q": {"question": 5}, "snapkv": {"window": 8}}


def make_policy(name: str, model: PreTrainedModel) -> locret.policies.Policy:
    """Any registered policy; one that needs heads gets random ones of the right shape."""
    options: dict[str, Any] = dict(POLICY_OPTIONS.get(name, {}))
    if "heads" in locret.policies.policy_options(name):
        torch.manual_seed(7)
        options["heads"] = locret.RetainingHeads.from_config(model.config, width=16)
    return locret.get_policy(name, **options)


# A tiny random model of every supported family; a new family is a row here.
TINY_MODELS: dict[str, Callable[..., PreTrainedModel]] = {
    "llama": tiny_llama,
    "mistral": tiny("mistral", sliding_window=None),
    "mixtral": tiny("mixtral", num_local_experts=3),
    "qwen2": tiny("qwen2"),
    "qwen3": tiny("qwen3"),
    "qwen3_moe": tiny("qwen3_moe", num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
    "phi3": tiny("phi3", partial_rotary_factor=0.75),
    "gemma3_text": tiny(
        "gemma3_text", sliding_window=24, layer_types=["sliding_attention", "full_attention", "full_attention"]
    ),
    "smollm3": tiny("smollm3", no_rope_layers=[1, 0, 1]),
    "olmo2": tiny("olmo2", num_key_value_heads=2),
    "olmo3": tiny("olmo3", sliding_window=24, layer_types=["sliding_attention", "full_attention", "full_attention"]),
    "granite": tiny("granite", attention_multiplier=0.3),
}
