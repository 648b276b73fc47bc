from __future__ import annotations

import pytest
import torch

import locret
from locret.bench import random_heads, random_model
from tests.conftest import TINY_MODELS


@pytest.mark.parametrize("family", TINY_MODELS)
def test_random_models_read(family: str) -> None:
    like = TINY_MODELS[family]()
    model = random_model(like.config, torch.bfloat16, "cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert sum(w.numel() for w in model.parameters()) == sum(w.numel() for w in like.parameters())
    for name, buffer in like.named_buffers():  # rotary tables are computed, not drawn
        torch.testing.assert_close(dict(model.named_buffers())[name], buffer, check_dtype=False, rtol=1e-2, atol=1e-2)
    policy = locret.get_policy("locret", heads=random_heads(model, 16))
    engine = locret.Engine(model, policy=policy, budget=locret.Budget(size=24, chunk=16, local=4))
    session = engine.prefill(list(range(60)))
    assert session.logits.isfinite().all()
    assert len(engine.generate(session, max_new_tokens=20).token_ids) == 20


def test_weights_follow_the_seed() -> None:
    config = TINY_MODELS["llama"]().config
    first, again, other = (random_model(config, torch.float32, "cpu", seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert 0.015 < float(first.std()) < 0.025


def test_tied_weights_stay_tied() -> None:
    config = TINY_MODELS["llama"](tie_word_embeddings=True).config
    model = random_model(config, torch.float32, "cpu")
    assert model.lm_head.weight is model.model.embed_tokens.weight
