"""The loss of one layer's scores, and how well their ranking agrees with the labels'."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

RECALL_SHARE = 16  # recall is taken at a budget of one sixteenth of the prompt


class LayerLoss(NamedTuple):
    """Both terms of one layer's loss, scalars; the loss is their sum."""

    fit: Tensor
    smoothness: Tensor


def layer_loss(scores: Tensor, labels: Tensor, layers: int, smoothness: float) -> LayerLoss:
    """One layer's share of the loss (Locret, arXiv 2410.01805).

    Summed over the layers this is SmoothL1 averaged over layers, heads and tokens, plus
    `smoothness` times the sum over layers of the mean squared step between neighbouring scores.

    Args:
        scores: predictions, [kv_heads, tokens].
        labels: [kv_heads, tokens].
        layers: number of layers of the model.
        smoothness: weight of the second term.
    """
    fit = functional.smooth_l1_loss(scores, labels) / layers
    if scores.shape[-1] < 2:
        return LayerLoss(fit, scores.new_zeros(()))
    step = functional.mse_loss(scores[:, :-1], scores[:, 1:])
    return LayerLoss(fit, smoothness * step)


def top_recall(scores: Tensor, labels: Tensor, share: int = RECALL_SHARE) -> Tensor:
    """The share of the labels' top units that the scores' top holds too, 0 to 1, over all heads.

    The top is one unit in `share`, at least one. Shapes: [kv_heads, tokens] both.
    """
    count = max(1, scores.shape[-1] // share)
    wanted = labels.topk(count, dim=-1).indices  # [kv_heads, count]
    found = scores.topk(count, dim=-1).indices
    hits = (wanted[:, :, None] == found[:, None, :]).any(dim=-1)
    return hits.float().mean()
