"""The objective: attention over kept units and memory slots is to give what attention over everything gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import locret
from locret.cache.convolved import Convolution
from locret.cache.dynamic import Dynamic
from locret.cache.merged import Merged
from recipes.merger.recorded import Cut, Pass, Recorders

QUERIES = 64  # of each pass, drawn at random; what follows the document asks with all


def recorded(
    model: Any, policy: Any, budget: locret.Budget, document: Sequence[int], rest: Sequence[int]
) -> list[list[Pass | Cut]]:
    """Read a document, then what follows it; the log of every layer."""
    maker = Recorders()
    engine = locret.Engine(model, policy=policy, budget=budget, storage=maker)
    engine.prefill(rest, engine.prefill(document))
    return maker.logs


def attend(queries: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
    """Attention with grouped heads.

    Args:
        queries: [1, q_heads, asked, head_dim], scaled.
        keys, values: [1, kv_heads, units, head_dim].
        hidden: [asked, units], true for units that a query does not see.

    Returns:
        [1, kv_heads, group, asked, head_dim].
    """
    grouped = queries.unflatten(1, (keys.shape[1], -1))
    logits = (grouped @ keys[:, :, None].mT).masked_fill(hidden, -torch.inf)
    return logits.softmax(dim=-1) @ values[:, :, None]


def layer_loss(weight: Tensor | None, log: Sequence[Pass | Cut], document: int, rng: random.Random) -> Tensor:
    """Squared error of the attention's output, relative to its square, mean over the passes after the first eviction.

    Args:
        weight: of the layer's convolution, with gradient; None for dense storage without any slots.
        log: of the layer.
        document: tokens of the document; passes after it ask with all queries, the others with some.
        rng: draws these.
    """
    small: Any = Dynamic() if weight is None else Merged(Convolution(weight))
    keys: list[Tensor] = []
    values: list[Tensor] = []
    losses, seen, cut = [], 0, False
    for event in log:
        if isinstance(event, Cut):
            small, cut = small.evict(event.kept, event.scores), True
            continue
        new = event.keys.shape[-2]
        small = small.append(event.keys, event.values)
        keys.append(event.keys)
        values.append(event.values)
        if cut:
            asked = list(range(new)) if seen >= document else sorted(rng.sample(range(new), min(QUERIES, new)))
            own = torch.arange(new) > torch.tensor(asked)[:, None]  # later units of the same pass
            found, wanted = (
                attend(event.queries[:, :, asked], *units, _hidden(own, units[0].shape[-2]))
                for units in (small.read(), (torch.cat(keys, dim=-2), torch.cat(values, dim=-2)))
            )
            losses.append((found - wanted).square().sum() / wanted.square().sum())
        seen += new
    return torch.stack(losses).mean()


def _hidden(own: Tensor, units: int) -> Tensor:
    """[asked, units]: every unit before the pass is seen."""
    return torch.cat([own.new_zeros(own.shape[0], units - own.shape[1]), own], dim=-1)
