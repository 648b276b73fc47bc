"""Models of any shape with random weights: as fast and as large as trained ones, and made without any download."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.initialization import no_init_weights

from locret.models.heads import RetainingHeads

STD = 0.02


@torch.no_grad()
def random_model(config: Any, dtype: torch.dtype, device: torch.device | str, seed: int = 0) -> Any:
    """A model of a configuration, made where and in the precision in which it is used.

    Args:
        config: its transformers configuration.
        dtype: of all weights.
        device: where they are made; nothing is copied there.
        seed: of the weights.
    """
    with no_init_weights(), torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    model.tie_weights()
    generator = torch.Generator(device).manual_seed(seed)
    for weight in model.parameters():
        # Norms have one dimension, as have biases; both are harmless at 1.
        weight.fill_(1.0) if weight.dim() == 1 else weight.normal_(0.0, STD, generator=generator)
    # Random tokens would end answers at random.
    model.generation_config.eos_token_id = None
    return model.requires_grad_(False)


def random_heads(model: nn.Module, width: int, seed: int = 0) -> RetainingHeads:
    """Retaining heads of random weights for a model; they are moved beside it at their first use."""
    torch.manual_seed(seed)
    return RetainingHeads.from_config(model.config, width=width)
