"""The published rules by their definitions: one dense pass whose attention evicts as it goes, with lists of positions.

Nothing of the package is used. The prompt goes through the model at once and without a cache; in every layer the
queries of a chunk see what that layer holds when the chunk comes, and then the rule says what it holds on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface

Stored = list[int]


@dataclass
class Run:
    """One reading: how it is cut into chunks, and in each layer what every KV head holds at the end.

    `rule(history, head, stored, run)` says what a KV head holds on of what it has `stored`; history is the attention of
    every chunk so far, [kv_heads, group, queries, tokens], 0 for what was not there.
    """

    rule: Callable[..., Stored]
    chunk: int
    size: int
    entropy: list[float] = field(default_factory=list)
    kept: dict[int, list[Stored]] = field(default_factory=dict)


def h2o(history: list[Tensor], head: int, stored: Stored, run: Run) -> Stored:
    """Half for the newest, half for those with the largest column sums."""
    sums = sum(weights[head].mean(0).sum(0) for weights in history)
    return best(stored, sums[stored].tolist(), run.size, newest=run.size // 2)


def tova(history: list[Tensor], head: int, stored: Stored, run: Run) -> Stored:
    """Those that the last query looks at, in the mean of all heads of the layer."""
    return best(stored, history[-1][:, :, -1].mean((0, 1))[stored].tolist(), run.size)


def snapkv(window: int) -> Callable[..., Stored]:
    """The window, and before it those with the largest pooled attention."""

    def rule(history: list[Tensor], head: int, stored: Stored, run: Run) -> Stored:
        observing = history[-1][head, :, -window:]  # [group, at most `window` queries, tokens]
        before = observing.mean((0, 1))[stored[: len(stored) - observing.shape[1]]].tolist()
        around = [0.0, 0.0, *before, 0.0, 0.0]
        pooled = [sum(around[at : at + 5]) / 5 for at in range(len(before))]
        return best(stored, pooled + [1.0] * (len(stored) - len(before)), run.size, newest=window)

    return rule


def sirllm(recent: int) -> Callable[..., Stored]:
    """The first four, the newest, and those that were expected least."""

    def rule(history: list[Tensor], head: int, stored: Stored, run: Run) -> Stored:
        known = dict(enumerate(run.entropy))
        scores = [float("inf") if at < 4 else known.get(at, 0.0) for at in stored]
        return best(stored, scores, run.size, newest=min(recent, run.size // 2))

    return rule


def best(stored: Stored, scores: list[float], size: int, newest: int = 0) -> Stored:
    """The newest, and of the others the highest scores."""
    pinned = stored[len(stored) - newest :]
    others = sorted(zip(scores, stored, strict=True), reverse=True)
    return sorted(pinned + [at for _, at in others if at not in pinned][: size - newest])


_runs: list[Run] = []


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,  # kvpress, once imported, passes it by place
    *,
    scaling: float,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    run, (heads, tokens), kv_heads = _runs[-1], query.shape[1:3], key.shape[1]
    group = heads // kv_heads
    stored: list[Stored] = [[] for _ in range(kv_heads)]
    history, outputs = [], []
    for begin in range(0, tokens, run.chunk):
        end = min(begin + run.chunk, tokens)
        hidden = torch.ones(heads, end - begin, tokens, dtype=torch.bool)
        for head in range(heads):
            for at in range(begin, end):
                hidden[head, at - begin, stored[head // group] + list(range(begin, at + 1))] = False
        logits = query[0, :, begin:end] @ key[0].repeat_interleave(group, 0).mT * scaling
        weights = logits.masked_fill(hidden, -torch.inf).softmax(-1)
        outputs.append(weights @ value[0].repeat_interleave(group, 0))
        history.append(weights.unflatten(0, (kv_heads, group)))
        stored = [own + list(range(begin, end)) for own in stored]
        if end > run.size:
            stored = [run.rule(history, head, own, run) for head, own in enumerate(stored)]
    run.kept[module.layer_idx] = stored
    return torch.cat(outputs, 1)[None].transpose(1, 2).contiguous(), None


AttentionInterface.register("naive_eviction", _attention)


@torch.no_grad()
def read(model: Any, ids: Tensor, run: Run) -> dict[int, list[Stored]]:
    """What each KV head of every layer holds after `ids` [1, tokens] were read."""
    before = model.config._attn_implementation
    _runs.append(run)
    try:
        model.config._attn_implementation = "naive_eviction"
        for begin in range(0, ids.shape[1], run.chunk):  # what a chunk predicts is known once it was read
            end = min(begin + run.chunk, ids.shape[1])
            logits = model(ids[:, :end], use_cache=False).logits[0]
            losses = cross_entropy(logits[begin : end - 1], ids[0, begin + 1 : end], reduction="none").tolist()
            run.entropy += [max(losses), *losses]
        model(ids, use_cache=False)
        return run.kept
    finally:
        model.config._attn_implementation = before
        _runs.pop()
