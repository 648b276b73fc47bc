"""LoCoCo's storage: what is evicted goes on in memory slots, by a convolution that must be trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import locret
from locret.cache import Convolution, Merged, make_lococo
from locret.models.fingerprint import fingerprint_of
from locret.models.merger import Merger
from tests.cache.test_storage_contract import HEADS, ROWS, some, units
from tests.conftest import make_policy, tiny_llama


def trained(model: torch.nn.Module, slots: int = 4) -> Merger:
    """Random weights that are said to be trained."""
    torch.manual_seed(3)
    merger = Merger.from_config(model.config, slots, 5, fingerprint_of(model))
    merger.config = replace(merger.config, objective="none, these are random")
    return merger


def naive_head(
    weight: Tensor, units: list[Tensor], mark: list[bool], own: list[int], worth: list[float], slots: int
) -> tuple[list[Tensor], list[bool]]:
    """The documented rule for one head, one unit and one weight at a time; keys and values are side by side."""
    total, kernel = len(worth), weight.shape[-1]
    newest = {unit for at, unit in enumerate(own) if own[at:] == list(range(unit, total))}

    def order(unit: int) -> tuple[int, float, int]:
        if worth[unit] == -torch.inf:
            return 4, 0.0, unit
        if mark[unit]:
            return 0, worth[unit], unit
        return (3 if worth[unit] == torch.inf else 2 if unit in newest else 1), worth[unit], unit

    hosts = sorted(sorted(own, key=order)[:slots])
    pool = sorted((unit for unit in range(total) if unit in hosts or unit not in own), key=lambda u: (not mark[u], u))
    inputs = [units[unit].double() * (worth[unit] > -torch.inf) for unit in pool]
    held, marked = dict(enumerate(units)), dict(enumerate(mark))
    for slot, host in enumerate(hosts):
        if worth[host] == -torch.inf:
            continue
        logits = []
        for at, unit in enumerate(pool):
            near = [(k, at + k - kernel // 2) for k in range(kernel)]
            logit = sum(float(weight[slot, :, k].double() @ inputs[i]) for k, i in near if 0 <= i < len(pool))
            logits.append(logit if worth[unit] > -torch.inf else -torch.inf)
        shares = torch.tensor(logits, dtype=torch.float64).softmax(0)
        held[host] = sum(share * x for share, x in zip(shares, inputs, strict=True)).float()
        marked[host] = True
    return [held[unit] for unit in own], [marked[unit] for unit in own]


def naive_evict(storage: Merged, kept: Tensor, scores: Tensor, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """All heads of all rows: keys, values and marks."""
    keys, values, marks = storage.columns.tensors
    both, found, found_marks = torch.cat([keys, values], dim=-1), [], []
    for row in range(kept.shape[0]):
        for head in range(kept.shape[1]):
            held, marked = naive_head(
                storage.rule.weight[head], list(both[row, head]), marks[row, head, :, 0].tolist(),
                kept[row, head].tolist(), scores[row, head].tolist(), slots,
            )  # fmt: skip
            found.append(torch.stack(held))
            found_marks.append(torch.tensor(marked))
    new_keys, new_values = torch.stack(found).unflatten(0, kept.shape[:2]).split(keys.shape[-1], dim=-1)
    return new_keys, new_values, torch.stack(found_marks).unflatten(0, kept.shape[:2])[..., None]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    slots=st.integers(1, 4), seed=st.integers(0, 1000), padded=st.booleans(),
    keeps=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)  # fmt: skip
def test_any_evictions_equal_naive_ones(slots: int, seed: int, padded: bool, keeps: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(HEADS, 4, 8, 5, generator=generator) * 0.3
    storage = Merged(Convolution(weight, slots))
    for step, keep in enumerate(keeps):
        keys, values = (part[..., :4] for part in units(14, seed + step))
        storage = storage.append(keys, values)
        scores = torch.randn(ROWS, HEADS, storage.units, generator=generator)
        scores[0, :, 0] = torch.inf
        if padded:
            scores[1, :, :3] = -torch.inf
        kept = some(storage.units, keep, seed + step)
        expected = naive_evict(storage, kept, scores, min(slots, keep))
        storage = storage.evict(kept, scores)
        for found, other in zip(storage.columns.tensors, expected, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-5)


def test_slots_stay_slots_and_take_in_what_comes() -> None:
    storage = Merged(Convolution(torch.zeros(HEADS, 2, 128, 5), 2))  # equal weights: every slot is the mean
    storage = storage.append(*units(20, 1))
    scores = torch.arange(20.0).expand(ROWS, HEADS, 20)
    kept = torch.tensor([0, 3, 10, 12, 19]).expand(ROWS, HEADS, 5)
    storage = storage.evict(kept, scores)
    marks = storage.columns.tensors[2][..., 0]
    assert torch.equal(marks, torch.tensor([True, True, False, False, False]).expand(ROWS, HEADS, 5))
    keys, values = units(20, 1)
    merged = [i for i in range(20) if i not in (10, 12, 19)]
    for found, original in zip(storage.read(), (keys, values), strict=True):
        expected = original[:, :, merged].mean(dim=2)
        torch.testing.assert_close(found[:, :, 0], expected)
        torch.testing.assert_close(found[:, :, 1], expected)
        assert torch.equal(found[:, :, 2:], original[:, :, [10, 12, 19]])
    # One slot is evicted: it goes on in the other, and another unit becomes a slot.
    again = storage.evict(torch.tensor([1, 2, 4]).expand(ROWS, HEADS, 3), torch.arange(5.0).expand(ROWS, HEADS, 5))
    assert again.columns.tensors[2][0, 0, :, 0].tolist() == [True, True, False]
    pool = storage.read()[1][:, :, [0, 1, 2, 3]]
    torch.testing.assert_close(again.read()[1][:, :, 0], pool.mean(dim=2))
    assert torch.equal(again.read()[1][:, :, 2], values[:, :, 19])


def test_sinks_and_the_newest_run_are_spared() -> None:
    storage = Merged(Convolution(torch.zeros(HEADS, 2, 128, 5), 2)).append(*units(30, 2))
    scores = torch.arange(30.0).masked_fill(torch.arange(30) < 2, torch.inf).expand(ROWS, HEADS, 30)
    kept = torch.tensor([0, 1, 8, 9, *range(24, 30)]).expand(ROWS, HEADS, 10)
    marks = storage.evict(kept, scores).columns.tensors[2][0, 0, :, 0]
    assert marks.nonzero().flatten().tolist() == [2, 3]
    kept = torch.tensor([0, 1, *range(22, 30)]).expand(ROWS, HEADS, 10)  # a window: its oldest have to be slots
    marks = storage.evict(kept, scores).columns.tensors[2][0, 0, :, 0]
    assert marks.nonzero().flatten().tolist() == [2, 3]


def test_by_default_an_eighth_are_slots() -> None:
    weight = torch.zeros(HEADS, 4, 128, 5)
    for keep, slots in ((7, 0), (8, 1), (31, 3), (64, 4)):
        storage = (
            Merged(Convolution(weight)).append(*units(100, 3)).evict(some(100, keep, 4), torch.randn(ROWS, HEADS, 100))
        )
        assert (storage.columns.tensors[2].sum(dim=2) == slots).all()


def test_a_mark_a_unit_is_all_that_is_added() -> None:
    keys, values = torch.randn(2, 1, 2, 100, 128).bfloat16()
    assert Merged(Convolution()).append(keys, values).nbytes == 2 * 100 * (2 * 128 * 2 + 1)


@pytest.mark.parametrize("policy", ["random", "h2o", "streaming_llm"])
@pytest.mark.parametrize("positions", ["true", "compact"])
def test_a_prompt_is_read_and_answered(policy: str, positions: str) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    engines = [
        locret.Engine(model, policy=make_policy(policy, model), budget=budget, storage=storage)
        for storage in ("dense", make_lococo(trained(model)))
    ]
    sessions = [engine.prefill(ids) for engine in engines]
    assert sessions[1].logits.isfinite().all()
    assert not torch.allclose(sessions[0].logits, sessions[1].logits)
    assert sessions[1].cache.stored == sessions[0].cache.stored
    assert len(engines[1].generate(sessions[1], 5).token_ids) == 5


def test_every_layer_has_its_own_convolution() -> None:
    model = tiny_llama()
    merger = trained(model)
    makers = make_lococo(merger, slots=2).for_model(model)
    assert all(torch.equal(maker().rule.weight, weight) for maker, weight in zip(makers, merger.layers, strict=True))
    assert all(maker().rule.slots == 2 and not maker().rule.weight.requires_grad for maker in makers)


def test_without_a_trained_merger_there_is_none() -> None:
    model = tiny_llama()
    policy, budget = make_policy("random", model), locret.Budget(size=40, chunk=32)
    with pytest.raises(locret.LocretError, match=r"for the built-in model only: train one .*recipes\.merger"):
        locret.Engine(model, policy=policy, budget=budget, storage="lococo")
    with pytest.raises(locret.LocretError, match="not trained"):
        locret.Engine(model, policy=policy, budget=budget, storage=make_lococo(Merger.from_config(model.config)))
    with pytest.raises(locret.LocretError, match="no trained merger"):
        Merged(Convolution()).append(*units(9, 5)).evict(some(9, 8, 6), torch.randn(ROWS, HEADS, 9))
    with pytest.raises(locret.LocretError, match="slots are 5: this merger has 1 to 4"):
        make_lococo(trained(model), slots=5)


def test_the_built_in_model_has_one() -> None:
    model, tokenizer, heads = locret.load_builtin()
    budget = locret.Budget(size=64, chunk=128, stabilizers=8, local=8)
    engine = locret.Engine(
        model, tokenizer, policy=locret.get_policy("locret", heads=heads), budget=budget, storage="lococo"
    )
    session = engine.prefill("The quick brown fox jumps over the lazy dog. " * 40)
    storage = session.cache.layers[0].storage
    assert int(storage.columns.tensors[2].sum()) == 2 * 8  # of 64 units in each of two heads
