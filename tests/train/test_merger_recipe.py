"""Training LoCoCo's merger: what is recorded is what was read, and steps lower the loss."""

from __future__ import annotations

import random

import pytest
import torch

import locret
from locret.models.merger import Merger
from recipes.merger.objective import attend, layer_loss, recorded
from recipes.merger.recorded import Cut, Pass
from tests.conftest import make_policy, tiny_llama

BUDGET = locret.Budget(size=32, chunk=32, stabilizers=4)
IDS = torch.randint(1, 97, (160,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.mark.parametrize("policy", ["h2o", "locret"])
def test_a_log_has_every_pass_and_every_cut(policy: str) -> None:
    model = tiny_llama()
    logs = recorded(model, make_policy(policy, model), BUDGET, IDS[:128], IDS[128:])
    assert len(logs) == 3
    for log in logs:
        assert [type(event) for event in log] == [Pass, Pass, Cut, Pass, Cut, Pass, Cut, Pass, Cut]
        assert {event.keys.shape for event in log if isinstance(event, Pass)} == {(1, 2, 32, 8)}
        assert {event.queries.shape for event in log if isinstance(event, Pass)} == {(1, 6, 32, 8)}


def test_without_evictions_attention_is_the_models_own() -> None:
    model = tiny_llama()
    event = recorded(model, make_policy("full", model), BUDGET, IDS[:30], IDS[30:31])[0][0]
    assert isinstance(event, Pass)
    outputs: list[torch.Tensor] = []
    projection = model.model.layers[0].self_attn.o_proj
    handle = projection.register_forward_pre_hook(lambda _, args: outputs.append(args[0]))
    model(input_ids=torch.tensor([IDS[:30]]))
    handle.remove()
    later = torch.arange(30) > torch.arange(30)[:, None]
    found = attend(event.queries, event.keys, event.values, later)  # [1, kv_heads, group, tokens, head_dim]
    torch.testing.assert_close(found.flatten(1, 2).transpose(1, 2).flatten(2), outputs[0], rtol=1e-4, atol=1e-5)


def test_steps_lower_the_loss() -> None:
    model = tiny_llama()
    torch.manual_seed(2)
    merger = Merger.from_config(model.config, 4, 5)
    logs = recorded(model, make_policy("random", model), BUDGET, IDS[:128], IDS[128:])
    optimizer = torch.optim.AdamW(merger.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        each = [layer_loss(w, log, 128, random.Random(0)) for w, log in zip(merger.layers, logs, strict=True)]
        optimizer.zero_grad()
        torch.stack(each).sum().backward()
        optimizer.step()
        losses.append(float(torch.stack(each).detach().sum()))
    assert losses[-1] < 0.98 * losses[0]
    assert all(weight.grad is not None and weight.grad.any() for weight in merger.layers)
