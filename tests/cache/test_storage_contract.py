"""The contract that every registered storage keeps; exact ones give back what was put in."""

from __future__ import annotations

import pytest
import torch

from locret.cache.storage import get_storage, list_storages

every_storage = pytest.mark.parametrize("name", list_storages())


def units(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, 2, 3, count, 8, generator=generator)
    return keys, values


@every_storage
def test_an_empty_storage_holds_nothing(name: str) -> None:
    empty = get_storage(name)()
    assert empty.units == empty.nbytes == 0
    assert empty.select_batch(torch.tensor([0])).units == 0


@every_storage
def test_units_come_back_in_order(name: str) -> None:
    first, second = units(5, 1), units(4, 2)
    storage = get_storage(name)().append(*first).append(*second)
    assert storage.units == 9
    for found, old, new in zip(storage.read(), first, second, strict=True):
        torch.testing.assert_close(found, torch.cat([old, new], dim=-2))


@every_storage
def test_gather_takes_other_units_in_every_head(name: str) -> None:
    keys, values = units(9, 3)
    indices = torch.stack([torch.randperm(9)[:4].sort().values for _ in range(6)]).view(2, 3, 4)
    storage = get_storage(name)().append(keys, values).gather(indices)
    for found, whole in zip(storage.read(), (keys, values), strict=True):
        for row in range(2):
            for head in range(3):
                torch.testing.assert_close(found[row, head], whole[row, head, indices[row, head]])


@every_storage
def test_a_storage_is_a_value(name: str) -> None:
    keys, values = units(6, 4)
    storage = get_storage(name)().append(keys, values)
    before = [tensor.clone() for tensor in storage.read()]
    storage.append(*units(3, 5))
    storage.gather(torch.zeros(2, 3, 1, dtype=torch.long))
    storage.map_keys(lambda stored: stored * 2)
    storage.select_batch(torch.tensor([1]))
    keys.zero_()  # nor does it follow the tensors it was made of
    assert storage.units == 6
    assert all(torch.equal(old, now) for old, now in zip(before, storage.read(), strict=True))


@every_storage
def test_keys_alone_are_mapped_and_rows_selected(name: str) -> None:
    keys, values = units(6, 6)
    storage = get_storage(name)().append(keys, values).map_keys(lambda stored: stored + 1)
    storage = storage.select_batch(torch.tensor([1, 1, 0]))
    torch.testing.assert_close(storage.read()[0], keys[[1, 1, 0]] + 1)
    torch.testing.assert_close(storage.read()[1], values[[1, 1, 0]])


@every_storage
def test_bytes_are_counted_and_shrink_with_the_units(name: str) -> None:
    storage = get_storage(name)().append(*units(64, 7))
    half = storage.gather(torch.arange(32).expand(2, 3, 32))
    assert 0 < half.nbytes <= 0.6 * storage.nbytes
