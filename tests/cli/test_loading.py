from __future__ import annotations

import pytest

import locret
from locret.cli.loading import Loaded
from tests.conftest import tiny_llama


@pytest.mark.parametrize("name", locret.list_policies())
def test_a_policy_gets_the_options_that_it_has(name: str) -> None:
    heads = locret.RetainingHeads.from_config(tiny_llama().config, width=8)
    policy = Loaded(None, None, heads).policy(name, seed=3)
    assert policy.name == name
    assert getattr(policy, "seed", 3) == 3
    assert getattr(policy, "heads", heads) is heads


@pytest.mark.parametrize("name", ["locret", "locret_q"])
def test_a_policy_that_needs_heads_is_refused_without(name: str) -> None:
    with pytest.raises(locret.LocretError, match=f"policy '{name}' needs retaining heads"):
        Loaded(None, None, None).policy(name)
