"""MInference (arXiv 2407.02490): while a prompt is read, each head computes only the part of attention that matters.

All keys are kept; what is saved is arithmetic. Every pass of several tokens estimates anew which keys its queries need,
by its own last 64 queries, over all that is stored and itself: the paper reads a prompt in one pass and estimates once,
at its end. Decoding is dense.

Each tile of 64 queries of each head attends to keys that are copied together for it. That takes less arithmetic than
dense attention where patterns are sparse, on any device, but on CUDA it is no match for the published fused kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from locret.attention.columns import Heads, covers, visible_keys
from locret.attention.lse import attention_with_lse, merge
from locret.attention.patterns import Pattern, Patterns
from locret.attention.select import attentions, in_order
from locret.attention.split import split_attention, split_mask
from locret.models.families import attention_modules, shapes_of

NAME = "locret_minference"

_patterns: WeakKeyDictionary[nn.Module, tuple[int, Patterns]] = WeakKeyDictionary()


def set_patterns(model: nn.Module, patterns: Patterns | None) -> None:
    """Say which patterns `model` reads with under the attention "minference"; None for the default ones.

    Raises:
        LocretError: the patterns are for another model.
    """
    shapes = shapes_of(model.config)
    (patterns or Patterns()).check(shapes.layers, shapes.q_heads)
    for layer, module in enumerate(attention_modules(model)):
        _patterns.pop(module, None)
        if patterns is not None:
            _patterns[module] = layer, patterns


@contextmanager
def use_patterns(model: nn.Module, patterns: Patterns) -> Iterator[None]:
    """`set_patterns`, and the default ones again afterwards."""
    set_patterns(model, patterns)
    try:
        yield
    finally:
        set_patterns(model, None)


def minference_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """An attention function in transformers' sense.

    It is dense for single tokens, where there is a mask (padding), and where the patterns would hide nothing. Args and
    result are those of `split_attention`; the stored keys are those of positions 0..stored, in order.
    """
    layer, patterns = _patterns.get(module, (0, Patterns()))
    own = patterns.of(layer, query.shape[1])
    everything = all(covers(pattern, key.shape[-2]) for pattern in own)
    if attention_mask is not None or query.shape[-2] == 1 or everything:
        return split_attention(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return sparse_attention(query, key, value, own, scale).transpose(1, 2).contiguous(), None


def sparse_attention(query: Tensor, key: Tensor, value: Tensor, patterns: list[Pattern], scaling: float) -> Tensor:
    """Attention of every query head to what its pattern shows, computed for that only.

    Args:
        query: [batch, q_heads, new, head_dim].
        key, value: [batch, kv_heads, stored + new, head_dim].
        patterns: one for each query head.
        scaling: factor on q . k.

    Returns:
        [batch, q_heads, new, head_dim].
    """
    output = torch.empty(*query.shape[:-1], value.shape[-1], dtype=query.dtype, device=query.device)
    for pattern, kv_head, own in _groups(patterns, key.shape[1]):
        heads, values = Heads(query[:, own], key[:, kv_head], scaling), value[:, kv_head]
        for begin, end, mask in visible_keys(heads, pattern):
            rows, tile = slice(begin - heads.stored, end - heads.stored), slice(begin, end)
            asking = heads.query[:, :, rows]
            parts = [attention_with_lse(asking, heads.key[:, None, tile], values[:, None, tile], scaling, causal=True)]
            if begin:
                parts.append(_over_columns(asking, heads.key, values, mask, scaling))
            output[:, own, rows] = merge(parts)
    return output


def _over_columns(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """Attention to the keys in `mask` [batch, heads, n], copied together for each head, and its log-sum-exp.

    Shapes: query [batch, heads, tile, head_dim]; key and value [batch, n or more, head_dim].
    """
    output = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype, device=query.device)
    lse = torch.full(query.shape[:-1], -torch.inf, device=query.device)
    for row in range(mask.shape[0]):
        for head in range(mask.shape[1]):
            columns = mask[row, head].nonzero()[:, 0]
            if len(columns):
                keys, values = (part[row].index_select(0, columns)[None, None] for part in (key, value))
                found = attention_with_lse(query[row, head][None, None], keys, values, scaling, causal=False)
                output[row, head], lse[row, head] = found[0][0, 0], found[1][0, 0]
    return output, lse


def naive_sparse_attention(
    query: Tensor, key: Tensor, value: Tensor, patterns: list[Pattern], scaling: float
) -> Tensor:
    """The same with the whole matrix of scores in memory, and hidden what the patterns do not show."""
    output = torch.empty(*query.shape[:-1], value.shape[-1], dtype=query.dtype, device=query.device)
    total = key.shape[-2]
    for pattern, kv_head, own in _groups(patterns, key.shape[1]):
        heads = Heads(query[:, own], key[:, kv_head], scaling)
        seen = torch.zeros(*heads.query.shape[:-1], total, dtype=torch.bool, device=key.device)
        for begin, end, mask in visible_keys(heads, pattern):
            rows = slice(begin - heads.stored, end - heads.stored)
            seen[..., rows, :begin], seen[..., rows, begin:end] = mask[..., None, :], True
        causal = torch.ones_like(seen[0, 0]).tril(heads.stored)
        weights = heads.logits(heads.stored, total).masked_fill(~(seen & causal), -torch.inf).softmax(dim=-1)
        output[:, own] = (weights @ value[:, kv_head, None].float()).to(query.dtype)
    return output


def _groups(patterns: list[Pattern], kv_heads: int) -> list[tuple[Pattern, int, list[int]]]:
    """Query heads that share a KV head and a pattern."""
    groups: dict[tuple[int, Pattern], list[int]] = defaultdict(list)
    for head, pattern in enumerate(patterns):
        groups[head * kv_heads // len(patterns), pattern].append(head)
    return [(pattern, kv_head, own) for (kv_head, pattern), own in groups.items()]


AttentionInterface.register(NAME, minference_attention)
AttentionMaskInterface.register(NAME, split_mask)
attentions.register("minference")(NAME)
in_order.add("minference")
