"""Half precision on every path: numbers stay numbers, scores are fp32, and logits are near those of fp32.

The yardstick is a dense fp32 pass of the same (rounded) weights, which sees exactly what the run in half precision saw:
its scores may rank units of almost equal scores otherwise, and that is no error.
"""

from __future__ import annotations

import pytest
import torch

import locret
from tests.conftest import TINY_MODELS, make_policy
from tests.gold import Reading, dense_logits, recorded

# Relative error of the logits. The models are random, so nothing in them was trained to be robust to rounding.
TOLERANCE = {torch.bfloat16: 0.02, torch.float16: 0.0025}
EXPERTS = 3  # times that where experts are chosen, as rounding may choose others
PROMPT, NEW = 203, 4


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("positions", ["true", "compact"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", TINY_MODELS)
def test_every_family_in_every_precision(family: str, dtype: torch.dtype, positions: str, attention: str) -> None:
    model = TINY_MODELS[family](initializer_range=0.1).to(dtype)
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    engine = locret.Engine(model, policy=make_policy("locret", model), budget=budget, attention=attention)
    ids = torch.randint(1, 97, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    logits: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda module, args, out: logits.append(out[0, -1].detach().float()))
    with recorded(model, Reading(positions)) as reading:
        result = engine.generate(engine.prefill(ids), NEW)
    hook.remove()

    cache = result.session.cache
    for layer in (cache.layers[i] for i in cache.budgeted):
        keys, values = layer.read()
        assert keys.dtype == values.dtype == dtype
        assert layer.scores.dtype == torch.float32
        assert keys.isfinite().all() and values.isfinite().all() and layer.scores.isfinite().all()
    everything = torch.cat([ids, torch.tensor([result.token_ids[:-1]])], -1)
    expected = dense_logits(model.float(), everything, reading)[0, PROMPT - 1 :]
    error = float((torch.stack(logits) - expected).norm() / expected.norm())
    assert error < TOLERANCE[dtype] * (EXPERTS if family in ("mixtral", "qwen3_moe") else 1)
