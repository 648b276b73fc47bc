"""Labels: how much the answer attended to each prompt token, per KV head.

The label of prompt token j for one KV head is the maximum, over the query rows p of the answers
(p > j) and over the query heads of the group, of an attention figure of (p, j): Locret
(arXiv 2410.01805) takes the logit before the softmax. Rows are the answers' own tokens
and the token before each answer, which predicts its first token.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from locret.registry import Registry

ROWS_AT_ONCE = 256
LOWEST_LOG_PROBABILITY = -12.0  # e^-12: far below 1 / 10240, a uniform share of the longest prompt

Objective = Callable[[Tensor], Tensor]
"""Causally masked fp32 logits [group, rows, keys] (masked: -inf) -> the figures to take the max of."""

_objectives: Registry[Objective] = Registry("objective")


def get_objective(name: str) -> Objective:
    """The objective of this name.

    Raises:
        LocretError: there is none; the message lists those there are.
    """
    return _objectives.get(name)


def list_objectives() -> list[str]:
    """Names of all registered objectives."""
    return _objectives.names()


@_objectives.register("logits")
def logits_objective(logits: Tensor) -> Tensor:
    """The paper's: the logit itself."""
    return logits


@_objectives.register("softmax")
def softmax_objective(logits: Tensor) -> Tensor:
    """The attention probability, over all keys the row can see."""
    return logits.softmax(dim=-1)


@_objectives.register("log_softmax")
def log_softmax_objective(logits: Tensor) -> Tensor:
    """The logarithm of the probability, cut off at -12, so that hopeless tokens all look alike."""
    return logits.log_softmax(dim=-1).clamp(min=LOWEST_LOG_PROBABILITY)


@_objectives.register("root_softmax")
def root_softmax_objective(logits: Tensor) -> Tensor:
    """The fourth root of the probability: between `softmax`, which sees only the largest, and the logarithm."""
    return (logits.log_softmax(dim=-1) / 4).exp()


@torch.no_grad()
def attention_labels(
    query: Tensor, key: Tensor, rows: Tensor, prompt_length: int, scaling: float, objective: str
) -> Tensor:
    """Labels of the prompt's tokens in one layer: fp32 [kv_heads, prompt_length].

    Memory is bounded by one group of query heads times 256 rows times the keys.

    Args:
        query: [q_heads, tokens, head_dim] after rotary embedding, one sample.
        key: [kv_heads, tokens, head_dim] after rotary embedding.
        rows: positions of the query rows, int64 [rows]; the last one is at least `prompt_length`.
        prompt_length: the first `prompt_length` tokens get labels.
        scaling: factor of the logits.
        objective: name of a registered objective.
    """
    figure = get_objective(objective)
    groups = query.unflatten(0, (key.shape[0], -1))  # [kv_heads, group, tokens, head_dim]
    labels = []
    for group, head_key in zip(groups, key, strict=True):
        best = torch.full((prompt_length,), -torch.inf, device=key.device)
        for some in rows.split(ROWS_AT_ONCE):
            figures = _figures(group[:, some], head_key, some, scaling, figure)
            figures = figures[..., :prompt_length]
            unseen = some[:, None] <= torch.arange(prompt_length, device=key.device)
            best = torch.maximum(best, figures.masked_fill(unseen, -torch.inf).amax(dim=(0, 1)))
        labels.append(best)
    return torch.stack(labels)


def _figures(query: Tensor, key: Tensor, rows: Tensor, scaling: float, objective: Objective) -> Tensor:
    """Query [group, rows, d] and key [tokens, d] -> fp32 [group, rows, tokens], causal."""
    with torch.autocast(query.device.type, enabled=False):
        logits = scaling * query.float() @ key.float().T
        future = rows[:, None] < torch.arange(key.shape[0], device=key.device)
        return objective(logits.masked_fill(future, -torch.inf))
