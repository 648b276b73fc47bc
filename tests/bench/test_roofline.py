from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import locret
from locret.bench.roofline import Machine, decode_seconds, measure_machine, roofline
from locret.plan import sizes_of
from tests.plan.cases import wider

BUDGET = locret.Budget(size=64, chunk=32, stabilizers=8, local=4)
SLOW = Machine(flops=1.0, bandwidth=1e30)


@pytest.mark.parametrize("family", ["llama", "phi3", "qwen3"])
def test_arithmetic_is_that_of_the_model(family: str) -> None:
    model = wider(family)
    model.set_attn_implementation("eager")  # the counter knows products, not the fused kernel of the CPU
    sizes, length = sizes_of(model.config), 40
    budget = replace(BUDGET, chunk=64, local=0)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(1, length, dtype=torch.long), logits_to_keep=1)
    needed = roofline(sizes, SLOW, length, budget, policy="full", element=4)
    # The counter takes all of the square of attention, of which causal queries need half.
    square = 4 * sizes.q_width * sizes.shapes.layers * (length**2 - length * (length + 1) // 2)
    assert needed.flops == pytest.approx(counter.get_total_flops() - square, rel=0.01)
    assert needed.seconds == pytest.approx(needed.flops)


def test_eviction_makes_time_linear() -> None:
    sizes = sizes_of(wider("llama").config)
    evicting, keeping = (
        [roofline(sizes, SLOW, length, BUDGET, policy=policy, element=4).flops for length in (4000, 8000)]
        for policy in ("locret", "full")
    )
    assert evicting[1] == pytest.approx(2 * evicting[0], rel=0.01)
    assert keeping[1] > 2.2 * keeping[0]


def test_heads_are_arithmetic_too() -> None:
    sizes = sizes_of(wider("llama").config)
    without, with_heads = (
        roofline(sizes, SLOW, 100, BUDGET, policy="locret", element=4, heads=heads).flops for heads in (0, 1000)
    )
    assert with_heads - without == 2 * 1000 * 100


def test_writing_is_bound_by_moves() -> None:
    sizes = sizes_of(wider("llama").config)
    machine = Machine(flops=1e15, bandwidth=1e9)
    weights = 4 * (sizes.weights.active + sizes.vocabulary * sizes.hidden)
    assert decode_seconds(sizes, machine, 4, 1000) == pytest.approx((weights + 1000) / 1e9)


def test_the_machine_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locret.bench.roofline.MATRIX", {"cpu": 64})
    monkeypatch.setattr("locret.bench.roofline.BUFFER", {"cpu": 1 << 16})
    machine = measure_machine(torch.device("cpu"), torch.float32)
    assert machine.flops > 0 and machine.bandwidth > 0
