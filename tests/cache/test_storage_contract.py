"""The contract that every registered storage keeps; exact ones give back what was put in, quantised ones nearly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from locret.cache import Convolution, Merged
from locret.cache.rotation import Move, Rotation
from locret.cache.storage import Storage, get_storage, list_storages

every_storage = pytest.mark.parametrize("name", list_storages())

# Relative error (Frobenius) of normally distributed keys and values; the others are exact.
TOLERANCE = {"quant8": 0.006, "fp8": 0.03, "quant4": 0.09, "quant2": 0.4}

ROWS, HEADS, DIM = 2, 3, 64
ROTATION = Rotation(10000.0 ** -(torch.arange(0, DIM, 2) / DIM))


def empty(name: str) -> Storage:
    """An empty storage; one that needs a trained convolution gets a random one."""
    if name == "lococo":
        return Merged(Convolution(torch.randn(HEADS, 4, 2 * DIM, 21, generator=torch.Generator().manual_seed(0)) / 50))
    return get_storage(name)()


def units(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, ROWS, HEADS, count, DIM, generator=generator)
    return keys, values


def some(total: int, kept: int, seed: int) -> Tensor:
    """Other units in every head, ascending."""
    generator = torch.Generator().manual_seed(seed)
    each = [torch.randperm(total, generator=generator)[:kept].sort().values for _ in range(ROWS * HEADS)]
    return torch.stack(each).view(ROWS, HEADS, kept)


def taken(tensor: Tensor, indices: Tensor) -> Tensor:
    """Like gather, with loops."""
    heads = [torch.stack([tensor[row, head, at] for head, at in enumerate(own)]) for row, own in enumerate(indices)]
    return torch.stack(heads)


def filled(name: str, count: int, seed: int) -> Storage:
    """A storage with so many units, brought by passes of 96."""
    storage = empty(name)
    keys, values = units(count, seed)
    for part in zip(keys.split(96, dim=-2), values.split(96, dim=-2), strict=True):
        storage = storage.append(*part)
    return storage


def check(name: str, found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        if name in TOLERANCE:
            assert (one - other).norm() <= TOLERANCE[name] * other.norm()
        else:
            torch.testing.assert_close(one, other)


@every_storage
def test_an_empty_storage_holds_nothing(name: str) -> None:
    storage = empty(name)
    assert storage.units == storage.nbytes == storage.visible == 0
    assert storage.select_batch(torch.tensor([0])).units == 0


@every_storage
def test_units_come_back_in_order(name: str) -> None:
    storage = filled(name, 400, 1)
    assert storage.units == 400
    check(name, storage.read(), units(400, 1))


@every_storage
def test_a_pass_sees_its_own_units_exactly_and_last(name: str) -> None:
    storage = filled(name, 300, 2)
    seen, new = storage.visible, units(200, 3)
    recalled = storage.append(*new).recall(200, None)
    for found, expected in zip(recalled, new, strict=True):
        assert found.shape == (ROWS, HEADS, seen + 200, DIM)
        assert torch.equal(found[:, :, -200:], expected)


@every_storage
def test_gather_takes_other_units_in_every_head(name: str) -> None:
    indices = some(300, 120, 4)
    storage = filled(name, 300, 5).gather(indices)
    assert storage.units == 120
    keys, values = units(300, 5)
    check(name, storage.read(), (taken(keys, indices), taken(values, indices)))


@every_storage
def test_gather_follows_any_order(name: str) -> None:
    indices = some(300, 120, 6).flip(-1)
    keys, values = units(300, 7)
    check(name, filled(name, 300, 7).gather(indices).read(), (taken(keys, indices), taken(values, indices)))


@every_storage
def test_evicting_nothing_changes_nothing(name: str) -> None:
    everything = torch.arange(300).expand(ROWS, HEADS, 300)
    storage = filled(name, 300, 8).evict(everything, torch.randn(ROWS, HEADS, 300))
    check(name, storage.read(), units(300, 8))


@every_storage
def test_an_eviction_keeps_so_many_and_the_storage_goes_on(name: str) -> None:
    storage = filled(name, 300, 9).evict(some(300, 150, 10), torch.randn(ROWS, HEADS, 300)).append(*units(7, 11))
    assert storage.units == 157
    for found, new in zip(storage.read(), units(7, 11), strict=True):
        assert found.shape == (ROWS, HEADS, 157, DIM)
        assert found.isfinite().all()
        assert torch.equal(found[:, :, -7:], new)


@every_storage
def test_a_storage_is_a_value(name: str) -> None:
    keys, values = units(300, 12)
    storage = empty(name).append(keys, values)
    keys.zero_()  # it does not follow the tensors it was made of
    check(name, storage.read(), units(300, 12))
    before = [tensor.clone() for tensor in storage.read()]
    storage.append(*units(200, 13)).append(*units(1, 14))
    storage.gather(some(300, 100, 15))
    storage.evict(some(300, 100, 16), torch.randn(ROWS, HEADS, 300))
    storage.map_keys(Move(ROTATION, torch.full((ROWS, HEADS, 300), -5)))
    storage.select_batch(torch.tensor([1]))
    type(storage).stack([storage, storage])
    assert storage.units == 300
    assert all(torch.equal(old, now) for old, now in zip(before, storage.read(), strict=True))


@every_storage
def test_keys_alone_are_moved_and_rows_selected(name: str) -> None:
    delta = torch.randint(-200, 200, (ROWS, HEADS, 300), generator=torch.Generator().manual_seed(17))
    storage = filled(name, 300, 18).map_keys(Move(ROTATION, delta)).select_batch(torch.tensor([1, 1, 0]))
    keys, values = units(300, 18)
    check(name, storage.read(), (ROTATION.rotate(keys, delta)[[1, 1, 0]], values[[1, 1, 0]]))


@every_storage
def test_moves_add_up_and_go_with_their_units(name: str) -> None:
    first, second = (torch.randint(-90, 90, (ROWS, HEADS, count)) for count in (300, 120))
    kept = some(300, 120, 19)
    storage = filled(name, 300, 20).map_keys(Move(ROTATION, first)).gather(kept)
    storage = storage.map_keys(Move(ROTATION, second)).append(*units(4, 21))
    keys, values = units(300, 20)
    moved = ROTATION.rotate(taken(keys, kept), first.gather(-1, kept) + second)
    new_keys, new_values = units(4, 21)
    expected = torch.cat([moved, new_keys], dim=-2), torch.cat([taken(values, kept), new_values], dim=-2)
    found = storage.read()
    for one, other in zip(found, expected, strict=True):
        tolerance = max(TOLERANCE.get(name, 0.0), 1e-5)
        assert (one - other).norm() <= tolerance * other.norm()


@every_storage
def test_rows_are_stacked_and_the_shorter_padded_at_the_front(name: str) -> None:
    long, short = filled(name, 300, 22), filled(name, 110, 23)
    delta = torch.full((ROWS, HEADS, 110), 9)
    both = type(long).stack([long, short.map_keys(Move(ROTATION, delta))])
    assert both.units == 300
    keys, values = units(110, 23)
    check(name, tuple(part[:ROWS] for part in both.read()), units(300, 22))
    check(name, tuple(part[ROWS:, :, 190:] for part in both.read()), (ROTATION.rotate(keys, delta), values))
    assert all(part.isfinite().all() for part in both.read())


@every_storage
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_what_it_is(name: str, dtype: torch.dtype) -> None:
    keys, values = (part.to(dtype) for part in units(300, 24))
    storage = empty(name).append(keys, values).append(keys[:, :, :1], values[:, :, :1])
    storage = storage.gather(torch.arange(290).expand(ROWS, HEADS, 290))
    check(name, tuple(part.float() for part in storage.read()), (keys[:, :, :290].float(), values[:, :, :290].float()))
    assert {part.dtype for part in storage.read()} == {dtype}


@every_storage
def test_bytes_are_counted_and_shrink_with_the_units(name: str) -> None:
    storage = empty(name).append(*units(1024, 25))
    half = storage.gather(torch.arange(512).expand(ROWS, HEADS, 512))
    held, left = (each.nbytes + getattr(each, "offloaded_bytes", 0) for each in (storage, half))
    assert 0 < left <= 0.6 * held
