"""The fast selection against sorting, ties included."""

from __future__ import annotations

import pytest
import torch

from locret.policies.selection import ascending, keep_mask, pin_newest, select, select_slots


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


@pytest.mark.parametrize("levels", [1, 3, 10**6])
@pytest.mark.parametrize(
    "units, size, protect", [(9, 1, 0), (9, 9, 3), (50, 20, 7), (50, 20, 20), (50, 45, 2), (8, 3, 2)]
)
def test_units_in_any_order_are_selected_by_their_positions(levels: int, units: int, size: int, protect: int) -> None:
    generator = torch.Generator().manual_seed(units * size + protect)
    for _ in range(50):
        scores = torch.randint(levels, (2, 3, units), generator=generator).float() - 1
        scores[torch.rand(scores.shape, generator=generator) < 0.1] = float("inf")
        scores[torch.rand(scores.shape, generator=generator) < 0.1] = -0.0
        order = torch.rand(scores.shape, generator=generator).argsort(dim=-1)
        keep = keep_mask(scores.gather(-1, order), size, protect, 7 * order.int())
        expected = select_naive(scores, size, protect)
        kept, slots = ascending(keep, size), select_slots(keep, size)
        assert torch.equal(order.gather(-1, kept).sort(dim=-1).values, expected)
        assert torch.equal(slots.sort(dim=-1).values, kept)
        assert bool(((slots == torch.arange(size)) | (slots >= size)).all())  # who stays, stays in place
        pinned = pin_newest(scores.gather(-1, order), protect, 7 * order)
        assert torch.equal(pinned, pin_newest(scores, protect).gather(-1, order))
