from __future__ import annotations

import pytest
import torch

import locret
from locret.bench import random_heads, random_model
from locret.plan import estimate, find_config, setting_of


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["llama-150m", "phi3-100m"])
@pytest.mark.parametrize("policy", ["locret", "full"])
def test_the_estimate_is_what_a_device_holds(shape: str, policy: str) -> None:
    device, length, width = torch.device("cuda"), 16384, 256
    budget = locret.Budget(size=4096, chunk=1024, stabilizers=256, local=100)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device)
    model = random_model(find_config(shape), torch.bfloat16, device)
    options = {"heads": random_heads(model, width)} if policy == "locret" else {}
    engine = locret.Engine(model, policy=locret.get_policy(policy, **options), budget=budget)
    engine.prefill(list(range(64)))
    torch.cuda.reset_peak_memory_stats(device)
    session = engine.prefill(torch.arange(length) % 1000)
    needed = estimate(setting_of(model.config, dtype="bfloat16", policy=policy, width=width), length, budget)
    assert session.kv_bytes == needed.kv
    assert torch.cuda.max_memory_allocated(device) - before == pytest.approx(needed.total, rel=0.05)
