"""The engine on a CUDA device against the same on the CPU. Run by `make gpu`."""

from __future__ import annotations

import copy

import pytest
import torch

import locret
from tests.conftest import make_policy, tiny_llama

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("policy_name", locret.list_policies())
def test_cuda_keeps_and_says_what_the_cpu_does(policy_name: str, attention: str, positions: str) -> None:
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    sessions = []
    for device in ("cpu", "cuda"):
        model = copy.deepcopy(tiny_llama()).to(device)
        policy = make_policy(policy_name, model)
        sessions.append(locret.Engine(model, policy=policy, budget=budget, attention=attention).prefill(ids))
    torch.testing.assert_close(sessions[1].logits.cpu(), sessions[0].logits, rtol=1e-3, atol=1e-3)
    for layer in range(3):
        assert torch.equal(sessions[1].cache.kept_positions(layer).cpu(), sessions[0].cache.kept_positions(layer))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_and_in_the_budget(dtype: torch.dtype) -> None:
    budget = locret.Budget(size=256, chunk=64, stabilizers=16, local=16)
    ids = torch.randint(1, 97, (1, 200), generator=torch.Generator().manual_seed(1))
    logits = []
    for kind in (torch.float32, dtype):
        model = tiny_llama(initializer_range=0.05).to("cuda", kind)
        session = locret.Engine(model, policy=make_policy("locret", model), budget=budget).prefill(ids)
        logits.append(session.logits)
    assert torch.nn.functional.cosine_similarity(logits[0], logits[1], dim=0) > 0.99
