"""The contract that every registered policy keeps.

A new policy is a file, and a row in `make_policy` if it cannot be made without options.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import locret
from locret.policies import Units
from locret.policies.base import register_policy
from tests.conftest import make_policy, tiny_llama

BUDGET = locret.Budget(size=24, chunk=16, stabilizers=4, local=6)
every_policy = pytest.mark.parametrize("name", locret.list_policies())


def prompt(length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(1, 97, (1, length), generator=torch.Generator().manual_seed(seed))


def kept(session: locret.Session) -> list[torch.Tensor]:
    return [session.cache.kept_positions(layer) for layer in range(len(session.cache.layers))]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_llama()


@every_policy
def test_scores_have_the_documented_shape_and_are_numbers(name: str, model: Any) -> None:
    policy = make_policy(name, model)
    policy.check(model)
    with torch.no_grad():
        cache = locret.BudgetCache(model, policy=policy, budget=BUDGET)
        model(prompt(16), past_key_values=cache)
    layer = cache.layers[1]
    assert layer.scores.shape == layer.positions.shape == (1, 2, 16)
    assert layer.scores.dtype == torch.float32
    assert not layer.scores.isnan().any()


@every_policy
def test_never_holds_more_than_the_budget_and_the_tail(name: str, model: Any) -> None:
    engine = locret.Engine(model, policy=make_policy(name, model), budget=BUDGET)
    short, long = engine.prefill(prompt(100)), engine.prefill(prompt(300))
    if engine.policy.evicts:
        assert short.kv_bytes == long.kv_bytes
        assert long.cache.stored == BUDGET.size + BUDGET.local
    else:
        assert long.kv_bytes == 3 * short.kv_bytes


@every_policy
@pytest.mark.parametrize("positions", ["true", "compact"])
def test_pinned_ends_outlast_every_cut(name: str, positions: str, model: Any) -> None:
    budget = locret.Budget(size=24, chunk=16, local=6, decode_budget=0, positions=positions, pin_first=3, pin_newest=9)
    engine = locret.Engine(model, policy=make_policy(name, model), budget=budget)
    session = engine.prefill(prompt(150))
    first = torch.arange(3).expand(2, -1)
    for at in kept(session):
        assert torch.equal(at[0, :, :3], first)
        assert torch.equal(at[0, :, -15:], torch.arange(135, 150).expand(2, -1))  # the tail, and nine before it
    written = engine.generate(session, max_new_tokens=20).session  # the last token is not read yet
    for at in kept(written):
        assert torch.equal(at[0, :, :3], first)
        assert torch.equal(at[0, :, -9:], torch.arange(160, 169).expand(2, -1))


@every_policy
def test_pins_within_the_budget_leave_the_rest_to_the_policy(name: str, model: Any) -> None:
    policy = make_policy(name, model)
    bare, pinned = (
        locret.Engine(model, policy=policy, budget=locret.Budget(size=40, chunk=400, pin_first=a, pin_newest=b))
        for a, b in ((0, 0), (2, 3))
    )
    for some, all_of in zip(kept(pinned.prefill(prompt(300))), kept(bare.prefill(prompt(300))), strict=True):
        for head in range(2):
            chosen = set(some[0, head].tolist()) - {0, 1, 297, 298, 299}
            assert chosen <= set(all_of[0, head].tolist())


@every_policy
def test_positions_ascend_and_end_with_the_tail(name: str, model: Any) -> None:
    session = locret.Engine(model, policy=make_policy(name, model), budget=BUDGET).prefill(prompt(150))
    for positions in kept(session):
        assert (positions.diff(dim=-1) > 0).all()
        assert torch.equal(positions[0, :, -BUDGET.local :], torch.arange(144, 150).expand(2, -1))


@every_policy
def test_reading_twice_keeps_the_same(name: str, model: Any) -> None:
    engine = locret.Engine(model, policy=make_policy(name, model), budget=BUDGET)
    first, second = engine.prefill(prompt(150)), engine.prefill(prompt(150))
    assert all(torch.equal(a, b) for a, b in zip(kept(first), kept(second), strict=True))
    assert torch.equal(first.logits, second.logits)


@every_policy
def test_one_policy_serves_two_caches_at_once(name: str, model: Any) -> None:
    policy = make_policy(name, model)
    engine = locret.Engine(model, policy=policy, budget=BUDGET)
    alone = [kept(engine.prefill(prompt(96, seed))) for seed in (1, 2)]
    caches = [locret.BudgetCache(model, policy=policy, budget=BUDGET, prompt_length=96) for _ in range(2)]
    with torch.no_grad():
        for begin in range(0, 96, 16):  # chunk by chunk in turn
            for seed, cache in zip((1, 2), caches, strict=True):
                model(prompt(96, seed)[:, begin : begin + 16], past_key_values=cache)
    for expected, cache in zip(alone, caches, strict=True):
        assert all(torch.equal(a, cache.kept_positions(i)) for i, a in enumerate(expected))


@every_policy
def test_batch_rows_do_not_touch_each_other(name: str, model: Any) -> None:
    policy = make_policy(name, model)
    # No token twice: equal tokens tie in layer 0, and a product of matrices rounds by their shape, which breaks ties.
    rows = torch.stack([torch.randperm(97, generator=torch.Generator().manual_seed(seed))[:96] for seed in (1, 2)])
    cache = locret.BudgetCache(model, policy=policy, budget=BUDGET)
    with torch.no_grad():
        model(rows, past_key_values=cache)
    for row in range(2):
        alone = locret.BudgetCache(model, policy=policy, budget=BUDGET)
        with torch.no_grad():
            model(rows[row : row + 1], past_key_values=alone)
        for layer in range(3):
            assert torch.equal(cache.kept_positions(layer)[row], alone.kept_positions(layer)[0])


def test_an_unknown_policy_or_option_is_refused_by_name() -> None:
    with pytest.raises(locret.LocretError, match=r"unknown policy 'h3o': choose one of full, h2o, locret"):
        locret.get_policy("h3o")
    with pytest.raises(locret.LocretError, match=r"policy 'random' has no option 'sinks': its options are \['seed'\]"):
        locret.get_policy("random", sinks=4)
    with pytest.raises(locret.LocretError, match=r"policy 'locret' needs 'heads'"):
        locret.get_policy("locret")
    with pytest.raises(locret.LocretError, match="sinks is -1"):
        locret.get_policy("streaming_llm", sinks=-1)


def test_a_second_policy_of_one_name_is_refused() -> None:
    with pytest.raises(locret.LocretError, match="policy 'full' is registered twice"):
        register_policy(type(locret.get_policy("full")))


def units(positions: torch.Tensor) -> Units:
    return Units(0, None, torch.zeros(*positions.shape, 4), positions, torch.zeros(*positions.shape[:2], 0))


def test_streaming_llm_keeps_sinks_and_the_newest(model: Any) -> None:
    budget = locret.Budget(size=24, chunk=16)
    session = locret.Engine(model, policy=locret.get_policy("streaming_llm"), budget=budget).prefill(prompt(150))
    expected = torch.tensor([*range(4), *range(130, 150)]).expand(1, 2, -1)
    assert all(torch.equal(positions, expected) for positions in kept(session))


def test_random_scores_are_uniform_and_differ_by_seed_layer_and_head() -> None:
    positions = torch.arange(20000).expand(1, 2, -1)
    scores = locret.get_policy("random").score(units(positions))
    assert scores.min() >= 0 and scores.max() < 1
    histogram = torch.histc(scores, 10, 0, 1) / scores.numel()
    assert (histogram - 0.1).abs().max() < 0.01
    assert torch.corrcoef(scores[0])[0, 1].abs() < 0.03
    assert not torch.equal(scores, locret.get_policy("random", seed=1).score(units(positions)))


def test_nan_scores_are_refused_with_the_layer(model: Any) -> None:
    heads = locret.RetainingHeads.from_config(model.config, width=8)
    torch.nn.init.constant_(heads.layers[2].fc2.weight, float("nan"))
    engine = locret.Engine(model, policy=locret.get_policy("locret", heads=heads), budget=BUDGET)
    with pytest.raises(locret.LocretError, match="'locret' gave NaN scores in layer 2"):
        engine.prefill(prompt(100))


def test_locret_without_hooks_says_so(model: Any) -> None:
    cache = locret.BudgetCache(model, policy=make_policy("locret", model), budget=BUDGET)
    locret.detach(model)
    with pytest.raises(locret.LocretError, match=r"hooks are off.*locret\.attach"), torch.no_grad():
        model(prompt(16), past_key_values=cache)
    locret.attach(model)


def test_random_takes_every_seed_and_tells_them_apart() -> None:
    positions = torch.arange(64).expand(1, 2, 64)
    seeds = (0, 1, 2047, 2048, 4095, 4096, 4097, 2**52 + 1, 2**63, 2**64 - 1)
    scores = [locret.get_policy("random", seed=seed).score(units(positions)) for seed in seeds]
    for index, one in enumerate(scores):
        assert all(not torch.equal(one, other) for other in scores[:index])
    assert [round(float(score), 6) for score in scores[1][0, 0, :3]] == [0.111346, 0.682695, 0.490694]  # as ever
