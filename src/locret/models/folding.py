"""Retaining heads folded into the projections that they read: the same scores with fewer multiplications.

Projections are linear maps of one hidden state h, and so is the first map of a head:

    fc1 [q; k; v] = fc1 (W h + b) = (fc1 W) h + fc1 b

h is narrower than [q; k; v], by a third in Llama-3.1-8B and two thirds in Phi-3-mini, and need not be put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from locret.models.placement import is_plain


def folds(hidden: int, features: int) -> bool:
    """Whether folding saves anything: the hidden state is narrower than [q; k; v]."""
    return hidden < features


def can_fold(fc1: nn.Linear, projections: Sequence[nn.Module]) -> bool:
    """Whether the projections are plain linear maps of one hidden state, in memory, that is worth folding with."""
    if not projections or not all(type(module) is nn.Linear and is_plain(module.weight) for module in projections):
        return False  # packed, offloaded, or changed by an adapter
    widths = {int(module.in_features) for module in projections}  # type: ignore[arg-type]
    return len(widths) == 1 and folds(widths.pop(), fc1.in_features)


@torch.no_grad()
def fold(fc1: nn.Linear, projections: Sequence[nn.Module]) -> tuple[Tensor, Tensor | None]:
    """The map from the hidden state: weight [width, hidden] and bias [width], None where projections have none.

    Computed in fp32, and given in the precision of `fc1`.
    """
    parts: Any = projections
    columns = fc1.weight.float().split([part.out_features for part in parts], dim=-1)
    pairs = list(zip(columns, parts, strict=True))
    weight = torch.stack([column @ part.weight.float() for column, part in pairs]).sum(dim=0)
    biases = [column @ part.bias.float() for column, part in pairs if part.bias is not None]
    bias = torch.stack(biases).sum(dim=0).to(fc1.weight.dtype) if biases else None
    return weight.to(fc1.weight.dtype), bias


def versions(*modules: nn.Module) -> tuple[tuple[int, int], ...]:
    """What changes when a weight does: where each is, and how often it was written (through `.data` is not noticed)."""
    weights = [weight for module in modules for weight in module.parameters(recurse=False)]
    return tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
