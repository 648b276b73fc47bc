from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

import locret
from locret.bench import limit, plain
from locret.bench.ring import RingLayer
from tests.conftest import TINY_MODELS, tiny_llama

LENGTH = 90
IDS = torch.randint(97, (LENGTH,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_with_room_for_all_the_limit_is_full_attention(family: str) -> None:
    model = TINY_MODELS[family]()
    budget = locret.Budget(size=LENGTH, chunk=16, local=4)
    ours, theirs = limit(model, budget, 8).read(IDS), plain(model, budget).read(IDS)
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("size", "chunk"), [(20, 16), (20, 50), (7, 7), (64, 16), (1, 3)])
def test_the_newest_units_are_kept(size: int, chunk: int) -> None:
    ring, told = RingLayer(size, chunk), torch.arange(200.0).view(1, 1, 200, 1)
    for start in range(0, 100, chunk):
        piece = told[:, :, start : start + chunk]
        keys, values = ring.update(piece, piece)
        seen = start + piece.shape[2]
        before = set(range(max(start - size, 0), start))
        assert {int(key) for key in keys.flatten()} == before | set(range(start, seen))
        assert keys.flatten()[-piece.shape[2] :].tolist() == piece.flatten().tolist()  # attention wants them last
        assert torch.equal(keys, values)
        assert ring.get_mask_sizes(5) == (min(seen, size) + 5, 0)
    ring.keep_from_here()
    for token in range(100, 103):
        keys, _ = ring.update(told[:, :, token : token + 1], told[:, :, token : token + 1])
    assert {int(key) for key in keys.flatten()} >= {100, 101, 102}
    assert keys.shape[2] == min(seen, size) + 3


def test_it_holds_what_a_budget_holds() -> None:
    model, budget = tiny_llama(), locret.Budget(size=24, chunk=16, local=4)
    own = limit(model, budget, 8)
    state = own.read(IDS)
    engine = locret.Engine(model, policy=locret.get_policy("streaming_llm"), budget=budget)
    assert own.kv_bytes(state) == engine.prefill(IDS).kv_bytes
    own.write(state, 8)
    assert state.cache.layers[0].stored + state.cache.layers[0].fresh == 24 + 4 + 7


def test_plain_transformers_is_left_alone() -> None:
    model = tiny_llama()
    own = plain(model, locret.Budget(size=24, chunk=16, local=4))
    state = own.read(IDS)
    with torch.no_grad():
        whole = model(input_ids=torch.tensor([IDS]), past_key_values=DynamicCache(config=model.config))
    torch.testing.assert_close(state.logits, whole.logits[0, -1], rtol=1e-4, atol=1e-4)
    assert own.kv_bytes(state) == 2 * 3 * 2 * 8 * LENGTH * 4
    assert own.first(state) == int(whole.logits[0, -1].argmax())
