"""The built-in backbone: a small Llama whose first layer starts out looking a few tokens back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

WINDOW = 32768
ATTENTION = "locret_recipe_causal"
# How many tokens back each query head of layer 0 looks, one row a KV head.
LOCAL_OFFSETS = ((1, 2, 3, 4), (1, 2, 3, 5))
# Squared size of the bias in each rotary pair, the fastest first. Fast pairs tell neighbours
# apart, slower ones the neighbourhood from the rest of the text.
LOCAL_ENERGY = (60.0, 50.0, 40.0, 30.0, 20.0, 15.0, 10.0, 6.0)


def config(bos: int, eos: int, vocabulary: int = 2048) -> LlamaConfig:
    """The configuration of the built-in model.

    With ``rope_theta`` 1e7 a third of the rotary pairs turn by less than half a circle over the
    window, so that matching of content does not depend on the distance.
    """
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        attention_bias=True,
        tie_word_embeddings=True,
        max_position_embeddings=WINDOW,
        rope_parameters={"rope_type": "default", "rope_theta": 1e7},
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )


def build(settings: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """A fresh model with local heads in layer 0."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(settings)
    start_local_heads(model)
    return model


@torch.no_grad()
def start_local_heads(model: LlamaForCausalLM) -> None:
    """Set the query and key biases of layer 0 so that its heads attend to fixed offsets.

    A key bias of angle 0 is turned by ``w * s`` at position ``s``; a query bias of angle
    ``-w * offset`` by ``w * p`` at ``p``. They meet where ``s = p - offset``.
    """
    settings = model.config
    half = settings.head_dim // 2
    base = settings.rope_parameters["rope_theta"]
    speed = base ** (-torch.arange(half) / half)
    size = torch.zeros(half)
    size[: len(LOCAL_ENERGY)] = torch.tensor(LOCAL_ENERGY).sqrt()
    attention = model.model.layers[0].self_attn
    queries = attention.q_proj.bias.view(-1, 2, half)  # [head, cosine or sine part, pair]
    keys = attention.k_proj.bias.view(-1, 2, half)
    keys[:, 0], keys[:, 1] = size, 0.0
    for head, offset in enumerate(sum(LOCAL_OFFSETS, ())):
        queries[head, 0] = size * torch.cos(speed * offset)
        queries[head, 1] = -size * torch.sin(speed * offset)
    attention.q_proj.weight.mul_(0.3)
    attention.k_proj.weight.mul_(0.3)


def causal_attention(
    module: nn.Module,
    query: torch.Tensor,  # [batch, heads, tokens, head_dim]
    key: torch.Tensor,  # [batch, kv_heads, tokens, head_dim]
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention over whole sequences by their order, whatever their position ids.

    Transformers takes a gap in the position ids for a border between packed sequences, and would
    mask what lies before it; training with position gaps needs it seen.
    """
    groups = query.shape[1] // key.shape[1]
    out = F.scaled_dot_product_attention(
        query,
        key.repeat_interleave(groups, dim=1),
        value.repeat_interleave(groups, dim=1),
        is_causal=True,
        scale=scaling or 1 / math.sqrt(query.shape[-1]),
    )
    return out.transpose(1, 2).contiguous(), None


def use_training_attention(model: LlamaForCausalLM) -> None:
    """Make the model use ``causal_attention``; it cannot go on from a cache then."""
    AttentionInterface.register(ATTENTION, causal_attention)
    model.set_attn_implementation(ATTENTION)
