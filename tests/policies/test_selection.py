"""The fast selection against sorting, ties included."""

from __future__ import annotations

import pytest
import torch

from locret.policies.selection import select


def select_naive(scores: torch.Tensor, size: int, protect: int) -> torch.Tensor:
    """By the definition: sort by score, the older one first among equals."""
    units = scores.shape[-1]
    rows = []
    for row in scores.reshape(-1, units).tolist():
        newest = list(range(units - min(protect, size), units))
        order = sorted(range(units - len(newest)), key=lambda at: (-row[at], at))
        rows.append(sorted(order[: size - len(newest)]) + newest)
    return torch.tensor(rows).view(*scores.shape[:-1], size)


@pytest.mark.parametrize("levels", [1, 2, 5, 10**6])
@pytest.mark.parametrize(
    "units, size, protect", [(9, 1, 0), (9, 9, 0), (50, 20, 7), (50, 20, 20), (50, 20, 30), (8, 3, 2)]
)
def test_equals_sorting(levels: int, units: int, size: int, protect: int) -> None:
    generator = torch.Generator().manual_seed(units * size + protect)
    for _ in range(50):
        scores = torch.randint(levels, (2, 3, units), generator=generator).float()
        scores[torch.rand(scores.shape, generator=generator) < 0.1] = float("inf")
        scores[torch.rand(scores.shape, generator=generator) < 0.1] = float("-inf")
        assert torch.equal(select(scores, size, protect), select_naive(scores, size, protect))
