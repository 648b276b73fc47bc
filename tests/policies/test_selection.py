"""Both fast selections, the CPU's and that of other devices, against sorting; ties included."""

from __future__ import annotations

import pytest
import torch

from locret.policies.selection import (
    ascending,
    ascending_queued,
    keep_mask,
    keep_mask_queued,
    pin_newest,
    select,
    select_slots,
)


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
        expected = select_naive(scores, size, protect)
        assert torch.equal(select(scores, size, protect), expected)
        if units > size:
            keep = keep_mask_queued(scores, size, min(protect, size), None)
            assert torch.equal(keep.nonzero()[:, -1].view_as(expected), expected)
            assert torch.equal(ascending_queued(keep, size), expected)


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
        assert units == size or torch.equal(
            keep, keep_mask_queued(scores.gather(-1, order), size, min(protect, size), 7 * order.int())
        )
        kept, slots = ascending(keep, size), select_slots(keep, size)
        assert torch.equal(order.gather(-1, kept).sort(dim=-1).values, expected)
        assert torch.equal(slots.sort(dim=-1).values, kept)
        assert bool(((slots == torch.arange(size)) | (slots >= size)).all())  # who stays, stays in place
        pinned = pin_newest(scores.gather(-1, order), protect, 7 * order)
        assert torch.equal(pinned, pin_newest(scores, protect).gather(-1, order))


@pytest.mark.parametrize("levels", [1, 3, 10**6])
@pytest.mark.parametrize("units, size, recent", [(9, 1, 1), (50, 20, 7), (50, 45, 30), (8, 3, 8)])
def test_the_newest_need_no_search_where_they_are_at_the_end(levels: int, units: int, size: int, recent: int) -> None:
    generator = torch.Generator().manual_seed(units * size + recent)
    for protect in range(recent + 3):  # two more than are at the end
        scores = torch.randint(levels, (2, 3, units), generator=generator).float()
        older = torch.rand(2, 3, units - recent, generator=generator).argsort(dim=-1)
        positions = torch.cat([older, torch.arange(units - recent, units).expand(2, 3, -1)], dim=-1).int()
        expected = keep_mask(scores, size, protect, positions)
        assert torch.equal(keep_mask(scores, size, protect, positions, recent), expected)
        assert torch.equal(keep_mask_queued(scores, size, min(protect, size), positions, recent), expected)


@pytest.mark.gpu
def test_a_device_selects_what_the_cpu_selects() -> None:
    generator = torch.Generator().manual_seed(3)
    for levels in (3, 10**6):
        scores = torch.randint(levels, (2, 4, 3072), generator=generator).float()
        positions = torch.rand(scores.shape, generator=generator).argsort(dim=-1).int()
        for ages in (None, positions):
            keep = keep_mask(scores, 2048, 64, ages)
            there = keep_mask(scores.cuda(), 2048, 64, None if ages is None else ages.cuda())
            assert torch.equal(there.cpu(), keep)
        assert torch.equal(select_slots(there, 2048).cpu(), select_slots(keep, 2048))
        assert torch.equal(ascending(there, 2048).cpu(), ascending(keep, 2048))
