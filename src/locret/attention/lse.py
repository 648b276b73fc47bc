"""Attention that also returns its log-sum-exp, so that parts over different keys can be merged exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from locret.attention.cudnn import cudnn_attention_with_lse, pays


def attention_with_lse(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """Softmax attention and the log-sum-exp of its scores.

    Args:
        query: [batch, q_heads, queries, head_dim].
        key, value: [batch, kv_heads, keys, head_dim]; q_heads is a multiple of kv_heads.
        scaling: factor on q . k.
        causal: query i sees keys 0..i; needs as many queries as keys.

    Returns:
        Output [batch, q_heads, queries, head_dim] and log-sum-exp [batch, q_heads, queries] in fp32.
    """
    if query.device.type == "cpu":
        output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, scale=scaling
        )
        return output, lse
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        if pays(query, key, value, causal):
            return cudnn_attention_with_lse(query, key, value, scaling, causal)
        # As scaled_dot_product_attention does with enable_gqa: the kernel reads a KV head for its whole group.
        output, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
            query, key, value, 0.0, causal, False, scale=scaling
        )
        return output, lse
    return naive_attention_with_lse(query, key, value, scaling, causal)


def naive_attention_with_lse(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool
) -> tuple[Tensor, Tensor]:
    """The same by the definition, with the matrix of scores in memory; runs anywhere."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = (query.float() @ key.float().mT) * scaling  # [batch, q_heads, queries, keys]
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    lse = scores.logsumexp(dim=-1)
    return ((scores - lse[..., None]).exp() @ value.float()).to(query.dtype), lse


def merge(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Attention over the union of disjoint sets of keys, from (output, log-sum-exp) over each of them."""
    output, lse = parts[0]
    for other, more in parts[1:]:
        weight = torch.sigmoid(more - lse)  # of the other: exp(more) / (exp(more) + exp(lse))
        output, lse = torch.lerp(output, other, weight[..., None].to(output.dtype)), torch.logaddexp(lse, more)
    return output
