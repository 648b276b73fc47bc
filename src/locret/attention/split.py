"""Split attention: a chunk's queries over "stored + chunk" without a materialised mask.

Every query sees all stored units, and of its own chunk what is not later than itself: two dense problems, one without a
mask and one plainly causal, merged by their log-sum-exp. `is_causal` on the whole rectangle would be aligned top-left,
which is wrong here; an explicit mask costs memory in the order of the scores.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function, sdpa_mask

from locret.attention.lse import attention_with_lse, merge
from locret.attention.select import attentions

NAME = "locret_split"


def split_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function in transformers' sense; falls back to its sdpa where there is a mask (padding).

    Args:
        module: the attention module.
        query: [batch, q_heads, new, head_dim].
        key, value: [batch, kv_heads, stored + new, head_dim].
        attention_mask: None, where every query sees all stored units and is causal among the new ones.
        dropout, scaling, **kwargs: as transformers passes them.

    Returns:
        Output [batch, new, q_heads, head_dim], and None for the weights.
    """
    new, stored = query.shape[-2], key.shape[-2] - query.shape[-2]
    if attention_mask is not None or new == 1 or stored == 0:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    past = attention_with_lse(query, key[..., :stored, :], value[..., :stored, :], scale, causal=False)
    chunk = attention_with_lse(query, key[..., stored:, :], value[..., stored:, :], scale, causal=True)
    return merge([past, chunk]).transpose(1, 2).contiguous(), None


def split_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """No mask for plain causal attention, sdpa's mask for everything else."""
    plain = kwargs.get("mask_function", causal_mask_function) is causal_mask_function
    if plain and kwargs.get("attention_mask") is None and kwargs.get("allow_is_causal_skip", True):
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


AttentionInterface.register(NAME, split_attention)
AttentionMaskInterface.register(NAME, split_mask)
attentions.register("split")(NAME)
