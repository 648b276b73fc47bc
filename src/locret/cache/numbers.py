"""Scores have to be numbers: NaN is in no order, so nothing could be chosen by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from locret.errors import LocretError

if TYPE_CHECKING:
    from locret.cache.layer import BudgetLayer


def check_numbers(scores: Tensor, layers: Sequence[BudgetLayer]) -> None:
    """Refuse scores that are no numbers; a maximum is NaN if any of them is.

    Raises:
        LocretError: says in which layer.
    """
    if scores.max().isnan():
        refuse(next(layer for layer in layers if layer.scores is not None and layer.scores.isnan().any()))


def refuse(layer: BudgetLayer) -> NoReturn:
    """Say that this layer's scores are no numbers.

    Raises:
        LocretError: always.
    """
    raise LocretError(
        f"policy {layer.reading.policy.name!r} gave NaN scores in layer {layer.index}: scores must be numbers "
        "(damaged heads or an overflow: try another dtype, or load the heads again)"
    )


@dataclass(frozen=True, slots=True)
class Look:
    """A look at scores that is on its way from a CUDA device, which goes on with its work meanwhile.

    Attributes:
        layers: whose scores they are.
        wrong: [layers] bool in host memory: whether any score is NaN, as soon as it is there.
        there: happens when it is.
    """

    layers: tuple[BudgetLayer, ...]
    wrong: Tensor
    there: torch.cuda.Event

    @classmethod
    def at(cls, scores: Tensor, layers: Sequence[BudgetLayer]) -> Look:
        """Ask for it: scores are [layers, batch, kv_heads, units]."""
        wrong = scores.flatten(1).amax(dim=1).isnan().to("cpu", non_blocking=True)
        return cls(tuple(layers), wrong, torch.cuda.current_stream(scores.device).record_event())

    def check(self) -> None:
        """Wait for it.

        Raises:
            LocretError: says in which layer scores are no numbers.
        """
        self.there.synchronize()
        for layer, wrong in zip(self.layers, self.wrong.tolist(), strict=True):
            if wrong:
                refuse(layer)
