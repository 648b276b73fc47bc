"""Shared fixtures: tiny random models of every supported family, and the data that lies beside a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

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


def tiny_llama(seed: int = 0, **changes: object) -> LlamaForCausalLM:
    """A random Llama with grouped queries, small enough for a test."""
    torch.manual_seed(seed)
    settings = {
        "vocab_size": 97, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 3,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
        "initializer_range": 0.3, "rope_theta": 10000.0, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


def make_policy(name: str, model: LlamaForCausalLM) -> locret.policies.Policy:
    """Any registered policy; one that needs heads gets random ones of the right shape."""
    if name != "locret":
        return locret.get_policy(name)
    torch.manual_seed(7)
    return locret.get_policy(name, heads=locret.RetainingHeads.from_config(model.config, width=16))


# A tiny random model of every supported family; a new family is a row here.
TINY_MODELS = {"llama": tiny_llama}
