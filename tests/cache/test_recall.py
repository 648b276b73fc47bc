"""Recall: what a policy evicted comes back for the passes that ask for it, once, in the heads that asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import DynamicCache

import locret
from locret.cache import Recall, make_recall
from locret.cache.codecs import Affine
from tests.conftest import TINY_MODELS, make_policy, tiny_llama
from tests.gold import dense_logits
from tests.recalled import recorded_recalls

ROWS, KV_HEADS, GROUP, DIM = 2, 2, 3, 8
BUDGET = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)


def select_by(worth: Tensor, listed: list[int], size: int) -> list[int]:
    return sorted(sorted(listed, key=lambda at: -float(worth[at]))[:size])


@pytest.mark.parametrize(
    ("block", "top", "representatives", "asked"), [(4, 2, 2, 64), (3, 1, None, 5), (5, 3, 1, 1), (1, 7, None, 8)]
)
def test_a_pass_sees_what_the_definition_says(block: int, top: int, representatives: int | None, asked: int) -> None:
    """Every head as a list of kept positions, and a list of evicted ones in order of eviction."""
    generator = torch.Generator().manual_seed(block)
    total, size, new = 96, 12, 8
    keys = torch.randn(ROWS, KV_HEADS, total, DIM, generator=generator)
    queries = torch.randn(ROWS, KV_HEADS * GROUP, total, DIM, generator=generator)
    worth = torch.randn(ROWS, KV_HEADS, total, generator=generator)
    values = torch.arange(total).float()[:, None].expand(ROWS, KV_HEADS, total, DIM).contiguous()
    coded = Affine(bits=4, group=64)
    coarse = coded.decode(coded.encode(keys), DIM)
    storage = make_recall(block=block, top=top, representatives=representatives, asked=asked)()
    heads = [(row, head) for row in range(ROWS) for head in range(KV_HEADS)]
    kept: dict[tuple[int, int], list[int]] = {each: [] for each in heads}
    evicted: dict[tuple[int, int], list[int]] = {each: [] for each in heads}
    for begin in range(0, total, new):
        end, visible = begin + new, storage.visible
        storage = storage.append(keys[..., begin:end, :], values[..., begin:end, :])
        shown_keys, shown = storage.recall(new, lambda last, end=end: queries[..., end - last : end, :])
        assert shown.shape[-2] == visible + new
        assert torch.equal(shown[..., -storage.units :, :], storage.read()[1])  # as the policy needs them
        for row, head in heads:
            gone = evicted[row, head]
            blocks = [gone[i : i + block] for i in range(0, len(gone) // block * block, block)]

            asking = queries[row, head * GROUP : (head + 1) * GROUP, max(end - asked, begin) : end]
            answers = [coarse[row, head, select_by(worth[row, head], own, representatives or block)] for own in blocks]
            relevance = [float((asking @ answer.mT).max()) for answer in answers]
            chosen = [blocks[i] for i in sorted(range(len(blocks)), key=lambda i: -relevance[i])[:top]]
            expected = {*kept[row, head], *gone[len(blocks) * block :], *(at for own in chosen for at in own)}
            at = shown[row, head, :visible, 0].long()
            assert len(set(at.tolist())) == visible  # none twice
            assert set(at.tolist()) == expected
            assert torch.equal(shown_keys[row, head, :visible], keys[row, head, at])
            kept[row, head] += range(begin, end)
            if len(kept[row, head]) > size:
                stay = select_by(worth[row, head], kept[row, head], size)
                evicted[row, head] += [at for at in kept[row, head] if at not in stay]
                kept[row, head] = stay
        if storage.units > size:
            scores = torch.stack([worth[row, head, storage.read()[1][row, head, :, 0].long()] for row, head in heads])
            scores = scores.view(ROWS, KV_HEADS, -1)
            storage = storage.evict(scores.topk(size).indices.sort().values, scores)
        for row, head in heads:
            assert storage.read()[1][row, head, :, 0].tolist() == kept[row, head]
    everything = keys.nbytes + values.nbytes
    assert storage.nbytes + storage.offloaded_bytes >= everything  # nothing is lost


@pytest.mark.parametrize("policy", [name for name in locret.list_policies() if name != "full"])
def test_logits_equal_a_dense_pass_under_the_mask_of_what_was_not_recalled(policy: str) -> None:
    check_gold(TINY_MODELS["llama"](), policy, "split")


@pytest.mark.parametrize("attention", ["masked", "eager"])
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_other_families_and_attentions(family: str, attention: str) -> None:
    check_gold(TINY_MODELS[family](), "locret", attention)


def check_gold(model: Any, name: str, attention: str) -> None:
    policy, storage = make_policy(name, model), make_recall(block=8, top=3, representatives=2)
    engine = locret.Engine(model, policy=policy, budget=BUDGET, attention=attention, storage=storage)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    budgeted = locret.BudgetCache(model, policy=policy, budget=BUDGET).budgeted
    with recorded_recalls(Recall, budgeted) as reading:
        session = engine.prefill(ids)
        result = engine.generate(session, 7)
    assert session.cache.stored == BUDGET.size + BUDGET.local
    everything = torch.cat([ids, torch.tensor([result.token_ids[:-1]])], -1)
    expected = dense_logits(model, everything, reading)[0, [202, -1]]
    found = torch.stack([session.logits, result.session.logits])  # after the prompt, and after the answer
    assert (found - expected).norm() / expected.norm() < 1e-4
    most = BUDGET.size + BUDGET.local + 6 + 3 * 8 + 7
    assert all(step.kept is None or step.kept[budgeted[0]].shape[-1] <= most for step in reading.passes)


@pytest.mark.parametrize("policy", ["locret", "streaming_llm", "random", "sirllm"])
def test_it_is_full_attention_where_all_blocks_are_recalled(policy: str) -> None:
    model = tiny_llama()
    engine = locret.Engine(
        model, policy=make_policy(policy, model), budget=BUDGET, storage=make_recall(block=8, top=100)
    )
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(2))
    session = engine.prefill(ids)
    with torch.no_grad():
        plain = model(input_ids=ids, past_key_values=DynamicCache(config=model.config)).logits[0, -1]
    assert (session.logits - plain).norm() / plain.norm() < 1e-5
    expected = model.generate(ids, max_new_tokens=7, do_sample=False)[0, 203:].tolist()
    assert engine.generate(session, 7).token_ids == expected
    assert engine.generate(session, 7).token_ids == expected  # from another fork


def test_what_does_not_go_together_is_refused() -> None:
    model = tiny_llama()
    compact = locret.Budget(size=40, chunk=32, positions="compact")
    with pytest.raises(locret.LocretError, match='needs positions="true"'):
        locret.BudgetCache(model, policy=locret.get_policy("random"), budget=compact, storage="recall")
    with pytest.raises(locret.LocretError, match="top is 0: give at least 1"):
        make_recall(top=0)
    with pytest.raises(locret.LocretError, match="bits are 3: choose 2, 4 or 8"):
        make_recall(bits=3)
    cache = locret.BudgetCache(model, policy=locret.get_policy("random"), budget=BUDGET, storage=make_recall(block=4))
    ids = torch.randint(1, 97, (2, 90), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, :20] = 0
    with pytest.raises(locret.LocretError, match="one by one"):
        model.generate(ids, attention_mask=mask, past_key_values=cache, max_new_tokens=3, do_sample=False)


def test_a_batch_of_one_length_equals_each_prompt_alone() -> None:
    model = tiny_llama()
    ids = torch.randint(1, 97, (2, 90), generator=torch.Generator().manual_seed(5))

    def answers(prompts: Tensor) -> Tensor:
        policy, storage = make_policy("locret", model), make_recall(block=4, top=2)
        cache = locret.BudgetCache(model, policy=policy, budget=BUDGET, storage=storage)
        return model.generate(prompts, past_key_values=cache, max_new_tokens=5, do_sample=False)

    assert torch.equal(answers(ids), torch.cat([answers(ids[:1]), answers(ids[1:])]))


def test_a_key_that_a_query_looks_for_brings_its_block_back() -> None:
    keys, values = normalize(torch.randn(2, 1, 1, 600, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    storage = make_recall(block=50, top=1)().append(keys, values)
    storage = storage.evict(torch.arange(590, 600)[None, None], torch.zeros(1, 1, 600))
    for wanted in (3, 217, 549):
        found = storage.append(keys[..., :1, :], values[..., :1, :])
        _, shown = found.recall(1, lambda last, at=wanted: 5 * keys[..., at : at + 1, :])
        first = wanted // 50 * 50
        assert torch.equal(shown[0, 0, :50], values[0, 0, first : first + 50])
