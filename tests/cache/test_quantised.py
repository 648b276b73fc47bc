"""Quantised storages: each unit is coded once, alone, from what the model computed."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import locret
from locret.cache.codecs import Affine, Codec, Float8, pack_bits, unpack_bits
from locret.cache.quantised import Quantised
from locret.cache.rotation import Move, Rotation
from locret.cache.storage import get_storage
from tests.cache.quantised_lists import NaiveQuantised, coded
from tests.cache.test_storage_contract import HEADS, ROTATION, ROWS, some, units
from tests.conftest import TINY_MODELS, make_policy
from tests.gold import Reading, dense_logits, recorded

CODECS = [Affine(8), Affine(4, 64), Affine(4, 24), Affine(2, 32), Float8()]


@given(bits=st.sampled_from([2, 4, 8]), codes=st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_packed_codes_come_back(bits: int, codes: list[int]) -> None:
    tensor = torch.tensor([codes], dtype=torch.uint8) & (2**bits - 1)
    packed = pack_bits(tensor, bits)
    assert packed.shape[-1] == -(-len(codes) * bits // 8)
    assert torch.equal(unpack_bits(packed, bits)[:, : len(codes)], tensor)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_affine_codes_equal_naive_ones(bits: int) -> None:
    keys, _ = units(20, 1)
    codec = Affine(bits)
    found = codec.decode(codec.encode(keys), keys.shape[-1])
    for row, head, unit in [(0, 0, 0), (1, 2, 19), (0, 1, 7)]:
        torch.testing.assert_close(found[row, head, unit], coded(keys[row, head, unit], bits), rtol=0, atol=1e-6)


@pytest.mark.parametrize("codec", CODECS[:-1])
def test_affine_codes_are_within_half_a_step(codec: Affine) -> None:
    keys = units(50, 2)[0] * 7 + 3
    error = (codec.decode(codec.encode(keys), 64) - keys).abs()
    widest = (keys.amax(-1) - keys.amin(-1))[..., None] / (2**codec.bits - 1)
    assert (error <= widest / 2 + 0.01).all()


def test_8_bit_floats_have_three_bits_of_fraction() -> None:
    keys = units(50, 2)[0] * 7 + 3
    error = (Float8().decode(Float8().encode(keys), 64) - keys).abs()
    assert (error <= keys.abs() / 16 + keys.abs().amax(-1, keepdim=True) * 2**-17 + 1e-3).all()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fill", [0.0, 1e-7, -3.0, 1e6])
def test_equal_tiny_and_huge_values_stay_finite(codec: Codec, fill: float) -> None:
    dense = torch.full((1, 1, 2, 64), fill)
    found = codec.decode(codec.encode(dense), 64)
    torch.testing.assert_close(found, dense.clamp(-65504, 65504), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("head_dim", "groups"), [(128, 4), (96, 3), (80, 4), (64, 2), (40, 2), (8, 1), (50, 2)])
def test_groups_fit_every_head_size(head_dim: int, groups: int) -> None:
    dense = torch.randn(1, 2, 5, head_dim)
    packed, low, high = Affine(2, 32).encode(dense)
    assert low.shape[-1] == high.shape[-1] == groups
    assert packed.shape[-1] == -(-head_dim // 4)
    assert Affine(2, 32).decode((packed, low, high), head_dim).shape == dense.shape


@pytest.mark.parametrize("codec", CODECS)
def test_quantising_and_evicting_may_be_swapped(codec: Codec) -> None:
    keys, values = units(300, 3)
    kept = some(300, 200, 4)
    kept[..., -20:] = torch.arange(280, 300)  # as stabilizers do, so that the residual is whole
    quantised = Quantised(codec, window=20).append(keys, values).append(*units(1, 5))
    evicted = quantised.gather(torch.cat([kept, torch.full_like(kept[..., :1], 300)], dim=-1))
    index = kept[..., None].expand(*kept.shape, 64)
    dense_first = Quantised(codec, window=20).append(keys.gather(-2, index), values.gather(-2, index))
    dense_first = dense_first.append(*units(1, 5)).gather(torch.arange(201).expand(ROWS, HEADS, 201))
    assert evicted.units == dense_first.units == 201
    for one, other in zip(evicted.packed.tensors, dense_first.packed.tensors, strict=True):
        assert torch.equal(one[..., :180, :], other[..., :180, :])  # codes and scales, bit by bit
    assert all(torch.equal(one, other) for one, other in zip(evicted.read(), dense_first.read(), strict=True))


def test_the_residual_is_as_long_as_the_head_with_fewest_recent_units_has_it() -> None:
    keys, values = units(60, 6)
    storage = Quantised(Affine(8), window=30).append(keys, values).append(*units(1, 7))
    storage = storage.gather(torch.arange(60).expand(ROWS, HEADS, 60))
    assert (storage.packed.units, storage.residual.units) == (30, 30)
    kept = torch.arange(20, 60).repeat(ROWS, HEADS, 1)
    kept[1, 2, -10:] = torch.arange(50, 60)
    kept[1, 2, :-10] = torch.arange(0, 30)  # this head kept 10 of the residual only
    evicted = storage.gather(kept)
    assert (evicted.packed.units, evicted.residual.units) == (30, 10)
    assert torch.equal(evicted.residual.tensors[0], keys[..., 50:, :])


actions = st.lists(
    st.tuples(st.sampled_from(["append", "evict", "move", "fork", "one"]), st.integers(0, 10**6)), max_size=12
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(actions=actions, bits=st.sampled_from([2, 4, 8]), window=st.integers(0, 9))
def test_any_life_of_a_storage_equals_that_of_lists(actions: list[tuple[str, int]], bits: int, window: int) -> None:
    rotation = Rotation(torch.tensor([1.0, 0.1, 0.01]))
    shape = (2, 2)

    def fresh(count: int, seed: int) -> Tensor:
        return torch.randn(2, *shape, count, 8, generator=torch.Generator().manual_seed(seed))

    naive = NaiveQuantised(bits, window)
    storage = Quantised(Affine(bits), window=window)
    pairs = [(storage, naive)]
    for action, seed in [("append", 1), *actions]:
        storage, naive = pairs[-1]
        generator = torch.Generator().manual_seed(seed)
        if action in ("append", "one"):
            new = fresh(1 if action == "one" else seed % 12 + 1, seed)
            naive.append(*new)
            storage = storage.append(*new)
        elif action == "evict":
            count = max(1, storage.units - seed % 9)
            each = [torch.randperm(storage.units, generator=generator)[:count].sort().values for _ in range(4)]
            kept = torch.stack(each).view(*shape, count)
            naive.gather(kept)
            storage = storage.evict(kept, torch.zeros(*shape, storage.units))
        elif action == "move":
            delta = torch.randint(-50, 50, (*shape, storage.units), generator=generator)
            naive.move(delta)
            storage = storage.map_keys(Move(rotation, delta))
        else:
            pairs.append((storage, naive.fork()))
        pairs[-1] = (storage, pairs[-1][1])
    for storage, naive in pairs:
        for found, expected in zip(storage.read(), naive.read(rotation), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_moving_a_thousand_times_costs_nothing() -> None:
    generator = torch.Generator().manual_seed(8)
    storage = get_storage("quant4")().append(*units(200, 9)).append(*units(1, 10))
    before = storage.read()
    total = torch.zeros(ROWS, HEADS, 201, dtype=torch.long)
    for _ in range(1000):
        delta = torch.randint(-100, 100, total.shape, generator=generator)
        storage, total = storage.map_keys(Move(ROTATION, delta)), total + delta
    once = get_storage("quant4")().append(*units(200, 9)).append(*units(1, 10)).map_keys(Move(ROTATION, total))
    assert torch.equal(storage.read()[0], once.read()[0])
    back = storage.map_keys(Move(ROTATION, -total)).read()
    assert all(torch.equal(old, now) for old, now in zip(before, back, strict=True))


# Bytes of a unit's key and value in one head of 128 channels, as docs/storages.md tells them.
@pytest.mark.parametrize(("name", "unit"), [("quant8", 264), ("fp8", 260), ("quant4", 144), ("quant2", 96)])
def test_bytes_are_those_really_held(name: str, unit: int) -> None:
    keys, values = torch.randn(2, 1, 2, 1128, 128).bfloat16()
    storage = get_storage(name)().append(keys, values).append(keys[..., :1, :], values[..., :1, :])
    storage = storage.gather(torch.arange(1129).expand(1, 2, 1129))  # the newest 128 stay dense
    assert storage.nbytes == 2 * (1001 * unit + 128 * 2 * 128 * 2)
    held = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in _tensors(storage)}
    assert sum(held.values()) == storage.nbytes
    moved = storage.map_keys(Move(ROTATION, torch.ones(1, 2, 1129)))
    assert moved.nbytes == storage.nbytes + 2 * 1129 * 4


def _tensors(storage: Quantised) -> list[Tensor]:
    return [tensor for part in (storage.packed, storage.residual) for tensor in part.tensors]


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("family", ["llama", "phi3"])
@pytest.mark.parametrize(("codec", "tolerance"), [(Affine(8), 0.03), (Affine(4), 0.6), (Float8(), 0.15)])
def test_the_gold_test_within_the_error_of_the_codes(
    family: str, positions: str, codec: Codec, tolerance: float
) -> None:
    """Logits after eviction, against a dense pass in full precision that sees the units that were kept."""
    storage = partial(Quantised, codec, window=8)  # so narrow that a tiny prompt is quantised
    model = TINY_MODELS[family]()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    engine = locret.Engine(model, policy=make_policy("random", model), budget=budget, storage=storage)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    reading = Reading(positions)
    logits = []
    hook = model.lm_head.register_forward_hook(lambda module, args, out: logits.append(out[0, -1].detach().clone()))
    with recorded(model, reading):
        result = engine.generate(engine.prefill(ids), 7)
    hook.remove()
    assert reading.passes[-1].kept is not None
    assert reading.passes[-1].kept[1].shape[-1] == 40 + 10 + 5
    everything = torch.cat([ids, torch.tensor([result.token_ids[:-1]])], -1)
    expected = dense_logits(model, everything, reading)[0, 202:]
    error = float((torch.stack(logits) - expected).norm() / expected.norm())
    assert 1e-5 < error < tolerance, error


def test_a_prompt_within_the_window_is_exact() -> None:
    model = TINY_MODELS["llama"]()
    ids = torch.randint(1, 97, (1, 100), generator=torch.Generator().manual_seed(2))
    budget = locret.Budget(size=100, chunk=32, stabilizers=8, local=10)
    dense, quantised = (
        locret.Engine(model, policy=make_policy("full", model), budget=budget, storage=name).prefill(ids)
        for name in ("dense", "quant2")
    )
    torch.testing.assert_close(dense.logits, quantised.logits)


@pytest.mark.parametrize("positions", ["true", "compact"])
def test_a_padded_batch_answers_as_each_prompt_alone(positions: str) -> None:
    """Not to the bit: in a batch the residual is as long as the shortest row's, so some units are coded earlier."""
    model = TINY_MODELS["llama"]()
    budget = locret.Budget(size=48, chunk=32, stabilizers=8, local=6, positions=positions)
    storage = partial(Quantised, Affine(8), window=8)
    ids = torch.randint(1, 97, (3, 217), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(217) >= torch.tensor([[193], [145], [0]])).long()

    def first_logits(prompt: Tensor, shown: Tensor | None) -> Tensor:
        cache = locret.BudgetCache(model, policy=make_policy("locret", model), budget=budget, storage=storage)
        output = model.generate(
            prompt, attention_mask=shown, past_key_values=cache, max_new_tokens=3, do_sample=False,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        return output.logits[0]

    together = first_logits(ids, mask)
    for row, shown in enumerate(mask.bool()):
        alone = first_logits(ids[row, shown][None], None)[0]
        assert (together[row] - alone).norm() < 0.05 * alone.norm()


def test_a_session_can_be_asked_again() -> None:
    model = TINY_MODELS["llama"]()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions="compact")
    storage = partial(Quantised, Affine(4), window=8)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget, storage=storage)
    session = engine.prefill(torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(4)))
    first, second = engine.generate(session, 20), engine.generate(session, 20)
    assert first.token_ids == second.token_ids
