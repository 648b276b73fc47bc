"""The search for MInference's patterns (arXiv 2407.02490): which one recalls most of each head's attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from locret.attention.columns import Heads, visible_keys
from locret.attention.observe import observe_attention
from locret.attention.patterns import A_SHAPE, BLOCK_SPARSE, VERTICAL_SLASH, Pattern, Patterns
from locret.errors import LocretError
from locret.models.families import decoder_of

# The published candidates, of about equal cost on prompts of some 30,000 tokens.
CANDIDATES = (
    Pattern(A_SHAPE, 100, 800),
    Pattern(VERTICAL_SLASH, 30, 800),
    Pattern(VERTICAL_SLASH, 100, 750),
    Pattern(VERTICAL_SLASH, 500, 700),
    Pattern(VERTICAL_SLASH, 3500, 100),
    Pattern(BLOCK_SPARSE, 8, 1),
)


@torch.no_grad()
def search_patterns(
    model: nn.Module, ids: Tensor, candidates: Sequence[Pattern] = CANDIDATES, skip: int | None = None
) -> Patterns:
    """Read a prompt densely, and give every head the candidate that recalls most of its attention.

    Args:
        model: a causal language model of transformers.
        ids: token ids [1, tokens] of one prompt, as long as memory allows.
        candidates: patterns to choose among.
        skip: first queries that are left out, as every pattern shows them everything; None for a twelfth (the published
            code leaves out 2500 of some 30,000).

    Returns:
        The best pattern of every head, with the share of attention that it recalls, 0 to 1.

    Raises:
        LocretError: there is nothing to choose among, or no prompt.
    """
    if not candidates or ids.numel() < 2:
        raise LocretError("the search needs candidates, and a prompt of at least 2 tokens")
    tokens = ids.shape[-1]
    begin = tokens // 12 if skip is None else min(skip, tokens - 1)
    found: list[dict[int, tuple[Pattern, float]]] = []

    def observe(layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
        group = query.shape[1] // key.shape[1]
        own: dict[int, tuple[Pattern, float]] = {}
        for kv_head in range(key.shape[1]):
            first = kv_head * group
            heads = Heads(query[:, first : first + group], key[:, kv_head], scaling)
            shares = torch.stack([_recalled(heads, pattern, begin) for pattern in candidates])  # [candidates, group]
            for head in range(group):
                best = int(shares[:, head].argmax())
                own[first + head] = candidates[best], round(float(shares[best, head]), 6)
        found.append(own)

    with observe_attention(model, observe):
        decoder_of(model)(input_ids=ids.to(next(model.parameters()).device), use_cache=False)
    return Patterns(tuple(found))


def _recalled(heads: Heads, pattern: Pattern, skip: int) -> Tensor:
    """Share of softmax attention on what a pattern shows, mean over the queries from `skip` on: [heads]."""
    sums, queries = torch.zeros(heads.query.shape[1], device=heads.query.device), 0
    for begin, end, mask in visible_keys(heads, pattern):
        start = max(begin, skip)
        if start >= end:
            continue
        later = torch.arange(end, device=mask.device) > torch.arange(start, end, device=mask.device)[:, None]
        weights = heads.logits(start, end, heads.key[:, :end]).masked_fill(later, -torch.inf).softmax(dim=-1)
        hidden = weights[..., :begin].masked_fill(mask[..., None, :], 0.0).sum(dim=-1)  # [batch, heads, queries]
        sums += (1 - hidden).sum(dim=-1).mean(dim=0)
        queries += end - start
    return sums / max(queries, 1)
