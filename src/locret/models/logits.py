"""Logits have to be numbers: of NaN nothing can be chosen, and `argmax` would take it for the likeliest token."""

from __future__ import annotations

import torch
from torch import Tensor

from locret.errors import LocretError


def unless_no_number(found: Tensor, best: Tensor) -> Tensor:
    """What was found among logits, or -1 where the largest of them is no number; all of it on the device.

    The largest is NaN if any is, and -inf if all are. So a choice and this question are one look at the device.

    Args:
        found: whole numbers that are not negative.
        best: of the same shape, the largest logit behind each.
    """
    return torch.where(best.abs() < torch.inf, found, -1)


def check_logits(logits: Tensor) -> None:
    """Refuse predictions [..., vocab] that are no numbers; single tokens may be ruled out (-inf).

    Raises:
        LocretError: the largest of a row is NaN or infinite.
    """
    best = logits.amax(dim=-1)
    if bool(best.isfinite().all()):
        return
    wrong = float(best[~best.isfinite()][0])
    raise LocretError(
        f"the model's predictions are no numbers (the largest logit of a token is {wrong}): most likely it overflows, "
        "as many models do in float16: load it in bfloat16 or float32 (dtype), or check its weights"
    )
