"""A layer's queries as its attention sees them, made out of what hooks see: projection, norm and rotary embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from locret.models.families import Shapes

Queries = Callable[[int], Tensor]
"""`queries(n)`: the last n new queries times the attention's scaling, fp32 [batch, q_heads, n, head_dim].

Their products with the cached keys are the attention's logits.
"""


def rotated_queries(
    module: nn.Module, shapes: Shapes, projected: Tensor, rotary: tuple[Tensor, Tensor] | None, last: int
) -> Tensor:
    """The last queries of a forward pass, see `Queries`.

    Args:
        module: the attention module.
        shapes: the model's attention sizes.
        projected: q after its projection, and after its norm where the module has one; [batch, tokens, q_heads *
            head_dim] or [batch, tokens, q_heads, head_dim].
        rotary: cos and sin, [batch or 1, tokens, rotary_dim]; None for a layer without rotary embedding.
        last: how many.
    """
    scaling: Any = getattr(module, "scaling", shapes.head_dim**-0.5)
    query = projected[:, -last:].reshape(projected.shape[0], -1, shapes.q_heads, shapes.head_dim)
    query = query.transpose(1, 2).float() * float(scaling)  # [batch, q_heads, last, head_dim]
    if rotary is None or not getattr(module, "use_rope", True):
        return query
    cos, sin = (part[:, None, -last:].float() for part in rotary)
    turned, rest = query[..., : cos.shape[-1]], query[..., cos.shape[-1] :]
    first, second = turned.chunk(2, dim=-1)
    return torch.cat([turned * cos + torch.cat([-second, first], dim=-1) * sin, rest], dim=-1)
