"""Cuts of several layers as one: what stays is chosen for all of them in the same operations.

A choice is made of many small operations, and their number costs more than their size: each is a launch on a GPU, and
on a CPU its code has left the caches while the model computed. Only layers whose storage fills gaps wait for one
another: there nothing moves before the next pass, so nothing is held for longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from locret.cache.fillings import filling
from locret.cache.numbers import Look, check_numbers
from locret.cache.storage import in_place
from locret.policies.selection import keep_mask

if TYPE_CHECKING:
    from locret.cache.layer import BudgetLayer

BYTES_A_SCORE = 8  # the largest tensor of a choice holds whole numbers of 64 bits


@dataclass
class Cuts:
    """The layers of a pass that wait to be cut, until so many of them do as are cut at once.

    Attributes:
        layers: they have equal shapes, on one device.
        size, protect: how many units each is to keep, and how many of the newest in any case.
        most: how many layers like these are cut at once.
        gathers: whether a pass is under way; without one no layer waits.
        looks: looks at scores that have not arrived yet, as far as anybody knows.
        before: how many of them are of earlier passes.
    """

    layers: list[BudgetLayer] = field(default_factory=list)
    size: int = 0
    protect: int = 0
    most: int = 1
    gathers: bool = False
    looks: list[Look] = field(default_factory=list)
    before: int = 0

    def begin(self) -> None:
        """A pass begins."""
        self.gathers = True

    def end(self, more: bool = False) -> None:
        """The pass is over.

        Args:
            more: whether the prompt goes on. Then a GPU still computes when the next pass is prepared, and scores are
                looked at when that is over: waiting would leave the GPU without work.

        Raises:
            LocretError: a score is NaN.
        """
        try:
            self.carry_out()
        finally:
            self.gathers = False
        self._check(self.before if more else len(self.looks))

    def add(self, layer: BudgetLayer, size: int, protect: int) -> None:
        """Cut a layer, now or before the pass is over.

        Raises:
            LocretError: a score is NaN.
        """
        if self.layers and not self._fits(layer, size, protect):
            self.carry_out()
        if not self.layers:
            self.size, self.protect, self.most = size, protect, at_once(layer)
        self.layers.append(layer)
        if not self.gathers or len(self.layers) >= self.most:
            self.carry_out()

    def _fits(self, layer: BudgetLayer, size: int, protect: int) -> bool:
        mine, other = self.layers[0].scores, layer.scores
        assert mine is not None and other is not None
        alike = mine.shape == other.shape and mine.device == other.device
        return alike and (self.size, self.protect) == (size, protect)

    def carry_out(self) -> None:
        """Cut the layers that wait.

        Raises:
            LocretError: a score is NaN; on CUDA that is seen later (`end`).
        """
        layers, self.layers = self.layers, []
        if not layers:
            return
        scores = _stacked([layer.scores for layer in layers])
        positions = _stacked([layer.positions for layer in layers])
        self.look(scores, layers)
        own = [layer.ranks(self.size) for layer in layers]
        # Mostly scores are what a cut goes by.
        ranks = scores if all(rank is layer.scores for rank, layer in zip(own, layers, strict=True)) else _stacked(own)
        recent = layers[0].seen - layers[0].cut_at  # what came since the latest cut is at the end
        moves = filling(keep_mask(ranks, self.size, self.protect, positions, recent), self.size)
        scores, positions = moves.filled(scores), moves.filled(positions)
        for i, (layer, own_scores, own_positions) in enumerate(zip(layers, scores, positions, strict=True)):
            roomy = in_place(layer.storage)
            assert roomy is not None
            layer.storage = roomy.fill(moves.change(i))
            layer.scores, layer.positions, layer.cut_at = own_scores, own_positions, layer.seen

    def look(self, scores: Tensor, layers: Sequence[BudgetLayer]) -> None:
        """Refuse scores [layers, batch, kv_heads, units] that are no numbers.

        Raises:
            LocretError: a score is NaN; on CUDA that is seen later (`end`), but within a pass only.
        """
        if not scores.is_cuda:
            check_numbers(scores, layers)
            return
        self.looks.append(Look.at(scores, layers))
        if not self.gathers:
            self._check(len(self.looks))

    def _check(self, count: int) -> None:
        """Wait for the first looks; the others are from now on of an earlier pass."""
        due, self.looks = self.looks[:count], self.looks[count:]
        self.before = len(self.looks)
        for look in due:
            look.check()


def at_once(layer: BudgetLayer) -> int:
    """How many layers like this one are cut at once: no tensor of their choice may be larger than a chunk's units."""
    assert layer.scores is not None
    chunk = layer.storage.nbytes // layer.storage.units * layer.reading.budget.chunk
    return max(chunk // (layer.scores.numel() * BYTES_A_SCORE), 1)


def _stacked(parts: Sequence[Tensor | None]) -> Tensor:
    """[layers, batch, kv_heads, units]."""
    return torch.stack([part for part in parts if part is not None])
