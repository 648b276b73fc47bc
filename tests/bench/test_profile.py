from __future__ import annotations

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import locret
from locret.bench import Engined, random_heads
from locret.bench.profile import PARTS, profile_reading
from locret.cache.layer import BudgetLayer
from tests.conftest import tiny_llama

BUDGET = locret.Budget(size=24, chunk=16, stabilizers=4, local=4)


def engined(policy: str) -> Engined:
    model = tiny_llama()
    options = {"heads": random_heads(model, 16)} if policy == "locret" else {}
    return Engined(policy, locret.Engine(model, policy=locret.get_policy(policy, **options), budget=BUDGET))


@pytest.mark.parametrize("policy", ["locret", "full", "h2o", "sirllm"])
def test_parts_make_up_the_whole(policy: str) -> None:
    parts = profile_reading(engined(policy), list(range(80)), torch.device("cpu"))
    assert {part.name for part in parts} == set(PARTS)
    assert sum(part.share for part in parts) == pytest.approx(1.0, abs=0.05)
    assert [part.seconds for part in parts] == sorted((part.seconds for part in parts), reverse=True)
    seconds = {part.name: part.seconds for part in parts}
    assert all(seconds[name] > 0 for name in ("projections", "attention", "mlp", "cache", "scores", "output layer"))


def test_nothing_stays_behind() -> None:
    contestant = engined("locret")
    hooks = sum(len(module._forward_hooks) for module in contestant.engine.model.modules())
    before = (
        BudgetLayer.cut,
        BudgetLayer.update,
        locret.policies.Locret.score,
        ALL_ATTENTION_FUNCTIONS["locret_split"],
    )
    with pytest.raises(locret.LocretError):
        profile_reading(contestant, [], torch.device("cpu"))
    profile_reading(contestant, list(range(40)), torch.device("cpu"))
    after = (BudgetLayer.cut, BudgetLayer.update, locret.policies.Locret.score, ALL_ATTENTION_FUNCTIONS["locret_split"])
    assert before == after
    assert hooks == sum(len(module._forward_hooks) for module in contestant.engine.model.modules())
