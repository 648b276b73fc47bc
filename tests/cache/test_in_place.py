"""Storages that work in place are values all the same; what they allocate."""

from __future__ import annotations

import copy
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import locret
from locret.cache.buffer import Buffer
from locret.cache.fillings import HostFilling, QueuedFilling, filling
from locret.cache.room import Room, room_for
from locret.cache.rotation import Move, Rotation
from locret.cache.storage import Storage, get_storage, in_place, list_storages
from locret.policies.selection import ascending, keep_mask, select_slots
from tests.conftest import make_policy, tiny_llama

EXACT = [
    name
    for name in list_storages()
    if not name.startswith(("quant", "fp", "infllm", "merge", "lococo", "convolved", "recall"))
]
ROWS, HEADS, DIM = 2, 2, 8
ROTATION = Rotation(10000.0 ** -(torch.arange(0, DIM, 2) / DIM))
Lists = tuple[Tensor, Tensor]  # keys and values, never changed in place


def units(count: int, generator: torch.Generator, rows: int = ROWS) -> Lists:
    keys, values = torch.randn(2, rows, HEADS, count, DIM, generator=generator)
    return keys, values


def taken(held: Lists, indices: Tensor) -> Lists:
    keys, values = (part.gather(-2, indices[..., None].expand(*indices.shape, DIM)) for part in held)
    return keys, values


def gone_on(name: str, held: Lists, storage: Storage, chance: random.Random) -> tuple[Storage, Lists]:
    """One random step of a storage, and of the reference beside it."""
    generator = torch.Generator().manual_seed(chance.getrandbits(32))
    rows, count = held[0].shape[0], held[0].shape[-2]
    step = chance.choice(["append", "append", "append", "evict", "evict", "gather", "move", "rows", "first"])
    if step == "append" or count < 2:
        keys, values = units(chance.choice([1, 1, 3, 12]), generator, rows)
        return storage.append(keys, values), (torch.cat([held[0], keys], -2), torch.cat([held[1], values], -2))
    size, roomy = chance.randint(1, count), in_place(storage)
    if step == "evict":
        keep = keep_mask(torch.rand(rows, HEADS, count, generator=generator), size)
        if roomy is not None and chance.random() < 0.6:
            return roomy.fill(filling(keep[None], size).change(0)), taken(held, select_slots(keep, size))
        kept = ascending(keep, size)
        return storage.evict(kept, torch.zeros(rows, HEADS, count)), taken(held, kept)
    if step == "first" and roomy is not None:
        return roomy.first(size), taken(held, torch.arange(size).expand(rows, HEADS, -1))
    if step == "move":
        move = Move(ROTATION, torch.randint(-9, 9, (rows, HEADS, count), generator=generator))
        return storage.map_keys(move), (move(held[0]), held[1])
    if step == "rows":
        chosen = torch.randint(rows, (ROWS,), generator=generator)
        return storage.select_batch(chosen), (held[0][chosen], held[1][chosen])
    indices = torch.randint(count, (rows, HEADS, size), generator=generator)
    return storage.gather(indices), taken(held, indices)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("seed", range(40))
def test_every_value_stays_what_it_is_whatever_others_do(name: str, seed: int) -> None:
    chance = random.Random(seed)
    storage, held = get_storage(name)(), units(4, torch.Generator().manual_seed(seed))
    roomy = in_place(storage)
    storage = storage if roomy is None else roomy.with_room(Room(*chance.choice([(0, 0), (24, 24), (0, 30)])))
    alive = [(storage.append(*held), held)]
    for _ in range(25):
        at = chance.randrange(len(alive))
        new = gone_on(name, alive[at][1], alive[at][0], chance)
        if chance.random() < 0.5:  # the old one is let go of, so that its memory may be written
            alive[at] = new
        else:
            alive.append(new)
        del new
        if len(alive) > 4:
            alive.pop(chance.randrange(len(alive)))
    for one, expected in alive:
        assert one.units == expected[0].shape[-2]
        for found, wanted in zip(one.read(), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def grown(generator: torch.Generator, room: int = 64) -> Storage:
    """Room for `room` units, with 40 of them stored."""
    roomy = in_place(get_storage("dense")())
    assert roomy is not None
    return roomy.with_room(Room(room, room)).append(*units(40, generator))


def filled(storage: Storage, keep: Tensor, size: int) -> Storage:
    """With its gaps filled; nothing here holds on to the old value."""
    roomy = in_place(storage)
    assert roomy is not None
    return roomy.fill(filling(keep[None], size).change(0))


def memory_of(storage: Storage) -> int:
    return storage.read()[0].untyped_storage().data_ptr()


def test_a_lone_value_goes_on_in_its_memory() -> None:
    generator = torch.Generator().manual_seed(0)
    storage = grown(generator)
    before = memory_of(storage)
    for _ in range(5):
        storage = storage.append(*units(24, generator))
        storage = filled(storage, keep_mask(torch.rand(ROWS, HEADS, 64, generator=generator), 40), 40)
        assert memory_of(storage) == before


def test_a_fork_copies_once_where_it_has_to() -> None:
    generator = torch.Generator().manual_seed(0)
    storage = grown(generator)
    first = storage.append(*units(1, generator))
    assert memory_of(first) == memory_of(storage)  # nobody else is there yet
    second = storage.append(*units(1, generator))
    copied = memory_of(second)
    assert copied != memory_of(storage)
    for _ in range(20):
        second = second.append(*units(1, generator))
        assert memory_of(second) == copied
    del first
    assert memory_of(storage.append(*units(1, generator))) == memory_of(storage)  # its places are free again


def test_views_of_attention_outlive_the_eviction() -> None:
    generator = torch.Generator().manual_seed(0)
    storage = grown(generator)
    keys, values = storage.recall(40, None)
    before = keys.clone(), values.clone()
    storage = filled(storage, keep_mask(torch.rand(ROWS, HEADS, 40, generator=generator), 20), 20)
    assert torch.equal(keys, before[0])
    assert torch.equal(values, before[1])
    storage.read()
    assert not torch.equal(keys, before[0])  # it was a view, so this test can fail


def test_gradients_flow_as_through_new_tensors() -> None:
    found = []
    for name in ("dense", "dynamic"):
        generator = torch.Generator().manual_seed(0)
        parts = [tuple(part.requires_grad_() for part in units(8, generator)) for _ in range(3)]
        storage = get_storage(name)()
        total = torch.zeros(())
        for keys, values in parts:
            storage = storage.append(keys, values)
            total = total + (storage.read()[0] * storage.read()[1]).square().sum()
            kept = torch.arange(0, storage.units, 2).expand(ROWS, HEADS, -1)
            storage = storage.evict(kept, torch.zeros(ROWS, HEADS, storage.units))
        total.backward()
        found.append([part.grad for pair in parts for part in pair])
    for dense, dynamic in zip(*found, strict=True):
        torch.testing.assert_close(dense, dynamic)


def test_what_was_read_in_inference_mode_goes_on_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        storage = grown(generator)
    after = storage.append(*units(4, generator)).append(*units(4, generator))
    assert after.units == 48
    twin = copy.deepcopy(after)
    assert torch.equal(twin.read()[0], after.read()[0])


@pytest.mark.parametrize("prompt, needed", [(None, 0), (30, 30), (100, 100), (1000, 164), (1 << 20, 164)])
def test_room_is_what_reading_takes(prompt: int | None, needed: int) -> None:
    budget = locret.Budget(size=100, chunk=64, stabilizers=8, local=10)
    room = room_for(0, 0, prompt, budget, True)
    assert room.least == needed
    assert room.most == (needed or 164)
    assert room.of(1000) == 1250
    assert room_for(0, 0, prompt, budget, False).least == (prompt or 0)


class Sizes(TorchDispatchMode):
    """Bytes of the storages that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in known:
                self.made.append(leaf.untyped_storage().nbytes())
        return result


@contextmanager
def sizes() -> Iterator[list[int]]:
    with torch.no_grad(), Sizes() as mode:
        yield mode.made


@contextmanager
def of_numpy() -> Iterator[list[int]]:
    """The most bytes at once that Python and numpy hold, which torch does not see; known afterwards."""
    most: list[int] = []
    tracemalloc.start()
    try:
        yield most
        most.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("count, size", [(64, 40), (64, 1), (41, 40), (40, 40), (100, 20)])
def test_both_ways_to_fill_gaps_are_the_same(count: int, size: int, same: bool) -> None:
    generator = torch.Generator().manual_seed(count + size)
    for _ in range(20):
        source = Buffer(*units(count + 3, generator))
        keep = keep_mask(torch.rand(2, ROWS, HEADS, count, generator=generator), size)
        kept = select_slots(keep, size)
        expected, state = taken(source.between(0, count), kept[1]), torch.rand(keep.shape, generator=generator)
        for moves in (HostFilling.of(keep, size), QueuedFilling.of(keep, size)):
            assert torch.equal(moves.filled(state), state.gather(-1, kept))
            change = moves.change(1)
            assert (change.leaves, change.reads) == (size, count)
            own = Buffer(source.keys.clone(), source.values.clone())
            target = own if same else Buffer.empty(*own.between(0, 0), count + 7)
            change.carry_out(own, target)
            for held, wanted in zip(target.between(0, size), expected, strict=True):
                assert torch.equal(held, wanted)


@pytest.mark.parametrize("order", ["gaps", "prompt"])
def test_an_eviction_allocates_no_more_than_a_chunk(order: str) -> None:
    size, chunk, dim = 4096, 256, 64
    generator = torch.Generator().manual_seed(0)
    roomy = in_place(get_storage("dense")())
    assert roomy is not None
    storage = roomy.with_room(Room(size + chunk, size + chunk)).append(*torch.randn(2, 1, 2, size + chunk, dim))
    scores, one_chunk = torch.rand(1, 2, size + chunk, generator=generator), 2 * chunk * dim * 4  # keys alone
    with sizes() as made, of_numpy() as most:
        keep = keep_mask(scores, size)
        storage = filled(storage, keep, size) if order == "gaps" else storage.evict(ascending(keep, size), keep.float())
        storage.read()
    assert made, "nothing was counted"
    assert max(made) <= one_chunk
    assert most[0] <= 2 * one_chunk, "all that numpy held at once"


@pytest.mark.parametrize("storage, static", [("dense", True), ("dynamic", False)])
def test_a_reading_allocates_no_second_buffer(storage: str, static: bool) -> None:
    model = tiny_llama(max_position_embeddings=8192, num_hidden_layers=2, head_dim=32)
    budget = locret.Budget(size=2048, chunk=32, stabilizers=8, local=8)
    engine = locret.Engine(model, policy=make_policy("random", model), budget=budget, storage=storage)
    ids = torch.randint(97, (2600,), generator=torch.Generator().manual_seed(0)).tolist()
    buffer = 2 * (budget.size + budget.chunk) * 32 * 4  # keys alone
    with sizes() as made:
        engine.prefill(ids)
    large = [nbytes for nbytes in made if nbytes >= buffer * 0.9]
    assert (len(large) == 2 * 2) is static, f"{len(large)} allocations"  # keys and values of two layers
