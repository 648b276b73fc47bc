"""Merging storages: what is evicted goes on in the nearest kept unit, as a mean of all that was ever merged."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import locret
from locret.cache import Merged, Nearest
from locret.cache.storage import get_storage
from tests.cache.test_storage_contract import HEADS, ROWS, some, units
from tests.conftest import make_policy, tiny_llama

MERGING = ["merge_kv", "merge_scored", "merge_v"]


def naive_evict(storage: Merged, kept: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The documented rule, one unit at a time."""
    old_keys, old_values, old_weights = storage.columns.tensors
    results = []
    for row in range(kept.shape[0]):
        for head in range(kept.shape[1]):
            keys, values, weights = (part[row, head].double() for part in (old_keys, old_values, old_weights))
            marks, stay = scores[row, head].tolist(), kept[row, head].tolist()
            shares = {at: [(at, float(weights[at]))] for at in stay}
            for unit in set(range(len(marks))) - set(stay):
                real = [at for at in stay if marks[at] > -torch.inf]
                if marks[unit] == -torch.inf or not real:
                    continue
                likeness = torch.cosine_similarity(keys[unit], keys[real], dim=-1)
                target = real[int(likeness.argmax())]
                if likeness.max() < storage.rule.threshold:
                    continue
                gap = 0.0 if marks[unit] == marks[target] else min(0.0, marks[unit] - marks[target])
                share = float(torch.tensor(gap).exp()) if storage.rule.scored else 1.0
                shares[target].append((unit, float(weights[unit]) * share))
            totals = {at: sum(weight for _, weight in given) for at, given in shares.items()}
            means = [
                torch.stack([sum(w * part[unit] for unit, w in shares[at]) / totals[at] for at in stay])
                for part in (keys, values)
            ]
            if not storage.rule.keys:
                means[0] = keys[stay]
            results.append((*means, torch.tensor([[totals[at]] for at in stay])))
    return tuple(torch.stack(part).unflatten(0, kept.shape[:2]).float() for part in zip(*results, strict=True))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(MERGING), threshold=st.sampled_from([-1.0, 0.0, 0.3]), seed=st.integers(0, 1000),
    keeps=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)  # fmt: skip
def test_any_evictions_equal_naive_ones(name: str, threshold: float, seed: int, keeps: list[int]) -> None:
    empty = get_storage(name)()
    storage = replace(empty, rule=replace(empty.rule, threshold=threshold))
    for step, keep in enumerate(keeps):
        keys, values = (part[..., :4] for part in units(14, seed + step))
        storage = storage.append(keys, values)
        scores = torch.randn(ROWS, HEADS, storage.units, generator=torch.Generator().manual_seed(seed))
        scores[0, :, 0], scores[1, :, 2], scores[1, :, 3] = torch.inf, torch.inf, -torch.inf
        kept = some(storage.units, keep, seed + step)
        expected = naive_evict(storage, kept, scores)
        storage = storage.evict(kept, scores)
        for found, other in zip(storage.columns.tensors, expected, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-5)


def test_whatever_was_merged_when_the_mean_of_all_stays() -> None:
    storage = Merged(Nearest(keys=True, threshold=-1.0))
    keys, values = units(900, 1)
    for step, part in enumerate(zip(keys.split(300, -2), values.split(300, -2), strict=True)):
        storage = storage.append(*part)
        storage = storage.evict(some(storage.units, 50, step), torch.zeros(ROWS, HEADS, storage.units))
    weights = storage.columns.tensors[2]
    torch.testing.assert_close(weights.sum(dim=-2), torch.full((ROWS, HEADS, 1), 900.0))
    for found, original in zip(storage.read(), (keys, values), strict=True):
        torch.testing.assert_close((found * weights).sum(-2) / 900, original.mean(-2), rtol=1e-4, atol=1e-5)


def test_units_unlike_all_others_are_dropped() -> None:
    keys = torch.eye(4)[None, None, :, :]
    storage = Merged(Nearest(keys=True, threshold=0.5)).append(keys, keys)
    kept = torch.tensor([[[0, 2]]])
    evicted = storage.evict(kept, torch.zeros(1, 1, 4))
    assert torch.equal(evicted.read()[0], keys[:, :, [0, 2]])
    assert evicted.columns.tensors[2].flatten().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", MERGING)
def test_padding_neither_gives_nor_takes(name: str) -> None:
    keys, values = units(20, 2)
    scores = torch.zeros(ROWS, HEADS, 20)
    scores[..., :5] = -torch.inf
    empty = get_storage(name)()
    empty = replace(empty, rule=replace(empty.rule, threshold=-1.0))
    storage = empty.append(keys, values)
    kept = torch.tensor([0, 1, 10, 11, 12]).expand(ROWS, HEADS, 5)
    evicted = storage.evict(kept, scores)
    weights = evicted.columns.tensors[2][..., 0]
    assert torch.equal(weights[..., :2], torch.ones(ROWS, HEADS, 2))
    torch.testing.assert_close(weights[..., 2:].sum(-1), torch.full((ROWS, HEADS), 15.0))
    other = empty.append(torch.where(scores[..., None] < 0, -keys, keys), values).evict(kept, scores)
    for found, same in zip(evicted.read(), other.read(), strict=True):
        assert torch.equal(found[..., 2:, :], same[..., 2:, :])


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("positions", ["true", "compact"])
def test_a_prompt_is_read_and_answered(name: str, positions: str) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    sessions = [
        locret.Engine(model, policy=make_policy("random", model), budget=budget, storage=storage).prefill(ids)
        for storage in ("dense", name)
    ]
    assert all(torch.equal(*(session.cache.kept_positions(layer) for session in sessions)) for layer in range(3))
    assert sessions[1].logits.isfinite().all()
    assert not torch.allclose(sessions[0].logits, sessions[1].logits)
    engine = locret.Engine(model, policy=make_policy("random", model), budget=budget, storage=name)
    assert len(engine.generate(sessions[1], 5).token_ids) == 5


@pytest.mark.parametrize("name", MERGING)
def test_weights_are_among_the_bytes(name: str) -> None:
    keys, values = torch.randn(2, 1, 2, 100, 128).bfloat16()
    assert get_storage(name)().append(keys, values).nbytes == 2 * 100 * (2 * 128 * 2 + 4)
