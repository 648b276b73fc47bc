"""Attention in parts, merged by log-sum-exp, against the definition."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

import locret
from locret.attention import cudnn, list_attentions, split_attention, use_attention
from locret.attention.lse import attention_with_lse, merge, naive_attention_with_lse
from tests.conftest import tiny_llama


def tensors(queries: int, keys: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    shapes = [(2, 6, queries, 16), (2, 2, keys, 16), (2, 2, keys, 16)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


@pytest.mark.parametrize("causal", [False, True])
def test_the_fast_part_equals_the_naive_one(causal: bool) -> None:
    query, key, value = tensors(20, 20 if causal else 33)
    fast, naive = (f(query, key, value, 0.3, causal) for f in (attention_with_lse, naive_attention_with_lse))
    torch.testing.assert_close(fast, naive, rtol=1e-4, atol=1e-5)


def masked_reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    new, stored = query.shape[-2], key.shape[-2] - query.shape[-2]
    visible = torch.ones(new, stored + new, dtype=torch.bool).tril(stored)
    key, value = (x.float().repeat_interleave(3, 1) for x in (key, value))
    scores = (query.float() @ key.mT * 0.3).masked_fill(~visible, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("new, stored", [(1, 0), (1, 40), (7, 0), (7, 40), (64, 3), (33, 100)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_split_equals_the_masked_matrix(new: int, stored: int, dtype: torch.dtype, tolerance: float) -> None:
    query, key, value = tensors(new, stored + new, dtype)
    module = SimpleNamespace(num_key_value_groups=3, is_causal=True)
    output, weights = split_attention(module, query, key, value, None, scaling=0.3)
    assert weights is None
    torch.testing.assert_close(output.float(), masked_reference(query, key, value), rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("new, stored", [(64, 3), (33, 100), (128, 512)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-3), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)])
def test_split_on_cuda_equals_the_masked_matrix(new: int, stored: int, dtype: torch.dtype, tolerance: float) -> None:
    query, key, value = tensors(new, stored + new, dtype)
    module = SimpleNamespace(num_key_value_groups=3, is_causal=True)
    output, _ = split_attention(module, query.cuda(), key.cuda(), value.cuda(), None, scaling=0.3)
    torch.testing.assert_close(
        output.cpu().float(), masked_reference(query, key, value), rtol=tolerance, atol=tolerance
    )


@pytest.mark.gpu
@pytest.mark.parametrize("queries, keys, causal", [(256, 300, False), (256, 256, True), (100, 6000, False)])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("head_dim", [64, 96, 128])
def test_what_comes_often_is_computed_by_cudnn(
    queries: int, keys: int, causal: bool, groups: int, head_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cudnn, "CALLS", 2)
    monkeypatch.setattr(cudnn, "_calls", Counter())
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, queries, 8, head_dim), *2 * [(2, 8 // groups, keys + 40, head_dim)]]
    query, key, value = (torch.randn(shape, generator=generator).cuda().bfloat16() for shape in shapes)
    # As they come: heads of the query behind the tokens, keys and values in a buffer with room.
    query, key, value = query.transpose(1, 2), key[..., :keys, :], value[..., :keys, :]
    pays = [cudnn.pays(query, key, value, causal) for _ in range(3)]
    hopper = torch.cuda.get_device_capability()[0] >= cudnn.HOPPER
    assert pays == [False, False, hopper]
    assert not cudnn.pays(query, key[..., 1:, :], value[..., 1:, :], causal)  # another shape
    found = attention_with_lse(query, key, value, 0.3, causal)
    expected = naive_attention_with_lse(query, key, value, 0.3, causal)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
        assert (ours.float() - theirs.float()).norm() / theirs.float().norm() < 1e-2


def test_a_shape_gets_a_plan_when_it_has_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = tensors(4, 9)
    monkeypatch.setattr(cudnn, "_calls", Counter())
    monkeypatch.setattr(cudnn, "can_use_cudnn_attention", lambda params: True)
    monkeypatch.setattr(cudnn, "SDPAParams", lambda *args: args)
    monkeypatch.setattr(cudnn, "CALLS", 2)
    monkeypatch.setattr(cudnn, "SHAPES", 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert [cudnn.pays(query, key, value, False) for _ in range(4)] == [False, False, True, True]
    assert not cudnn.pays(query, key, value, True)
    assert cudnn.pays(query, key, value, False)
    assert not cudnn.pays(query, key[..., 1:, :], value[..., 1:, :], False)  # a third shape: counted from nothing
    assert not cudnn.pays(query, key, value, False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    assert not any(cudnn.pays(query, key, value, False) for _ in range(4))


def test_merging_three_parts_equals_one() -> None:
    query, key, value = tensors(9, 60)
    parts = [
        attention_with_lse(query, k, v, 0.3, False) for k, v in zip(key.split(20, 2), value.split(20, 2), strict=True)
    ]
    whole, _ = naive_attention_with_lse(query, key, value, 0.3, False)
    torch.testing.assert_close(merge(parts), whole, rtol=1e-4, atol=1e-5)


def test_the_models_attention_is_restored_even_after_an_error() -> None:
    model = tiny_llama()
    before = model.config._attn_implementation
    with pytest.raises(RuntimeError), use_attention(model, "split"):
        assert model.config._attn_implementation != before
        raise RuntimeError
    assert model.config._attn_implementation == before


def test_an_unknown_attention_is_refused() -> None:
    assert {"split", "masked", "eager"} <= set(list_attentions())
    budget, policy = locret.Budget(size=8), locret.get_policy("full")
    with pytest.raises(locret.LocretError, match="unknown attention 'flash9': choose one of eager"):
        locret.Engine(tiny_llama(), policy=policy, budget=budget, attention="flash9")
