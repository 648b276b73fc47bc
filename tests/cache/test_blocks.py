"""InfLLM: which units a pass sees, against lists of positions written from the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import locret
from locret.cache import InfLLM, make_infllm
from locret.cache.blocks import Resident, Sizes
from locret.cache.offloaded import HostPiece
from tests.conftest import TINY_MODELS, tiny_llama
from tests.gold import dense_logits
from tests.recalled import recorded_recalls

ROWS, KV_HEADS, GROUP, DIM = 2, 2, 3, 8
BUDGET = locret.Budget(size=40, chunk=32, stabilizers=8, local=10)


def data(total: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and queries, and values that tell their positions."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(ROWS, KV_HEADS, total, DIM, generator=generator)
    queries = torch.randn(ROWS, KV_HEADS * GROUP, total, DIM, generator=generator)
    values = torch.arange(total).float()[:, None].expand(ROWS, KV_HEADS, total, DIM).contiguous()
    return keys, queries, values


def naive_visible(keys: Tensor, queries: Tensor, begin: int, end: int, sizes: Sizes) -> list[set[int]]:
    """Positions before `begin` that the pass begin..end sees, one set a row."""
    blocks = max(begin - sizes.init - sizes.local, 0) // sizes.block
    visible = []
    for row in range(ROWS):
        relevance = []
        for block in range(blocks):
            first, answer = sizes.init + block * sizes.block, 0.0
            for head in range(KV_HEADS):
                group = range(head * GROUP, (head + 1) * GROUP)
                worth = []
                for at in range(first, first + sizes.block):
                    after = range(at + 1, at + 1 + sizes.local)
                    worth.append(sum(float(queries[row, q, i] @ keys[row, head, at]) for q in group for i in after))
                best = sorted(range(sizes.block), key=lambda i: -worth[i])[: sizes.representatives]
                answer += sum(
                    float(queries[row, q, i] @ keys[row, head, first + at])
                    for q in group for i in range(begin, end) for at in best
                )  # fmt: skip
            relevance.append(answer)
        chosen = sorted(range(blocks), key=lambda block: -relevance[block])[: sizes.top]
        seen = {*range(min(sizes.init, begin)), *range(sizes.init + blocks * sizes.block, begin)}
        for block in chosen:
            seen.update(range(sizes.init + block * sizes.block, sizes.init + (block + 1) * sizes.block))
        visible.append(seen)
    return visible


@pytest.mark.parametrize(
    "sizes",
    [
        Sizes(init=2, local=6, block=4, top=2, representatives=2),
        Sizes(init=0, local=3, block=5, top=1, representatives=1),
    ],
)
@pytest.mark.parametrize("passes", [[7, 7, 7, 7, 7], [16, 3, 1, 1, 1, 9, 2], [1] * 30, [33, 1, 1]])
def test_a_pass_sees_what_the_definition_says(sizes: Sizes, passes: list[int]) -> None:
    keys, queries, values = data(sum(passes), seed=len(passes))
    storage, begin = InfLLM(sizes), 0
    for new in passes:
        end = begin + new
        expected = naive_visible(keys, queries, begin, end, sizes)
        visible = storage.visible
        assert visible == len(expected[0])
        storage = storage.append(keys[..., begin:end, :], values[..., begin:end, :])
        shown_keys, shown = storage.recall(new, lambda last, end=end: queries[..., end - last : end, :])
        assert torch.equal(shown[..., visible:, :], values[..., begin:end, :])
        for row in range(ROWS):
            for head in range(KV_HEADS):
                at = shown[row, head, :visible, 0].long()
                assert set(at.tolist()) == expected[row]
                assert torch.equal(shown_keys[row, head, :visible], keys[row, head, at])
        begin = end
    assert storage.units == begin
    assert torch.equal(storage.read()[0], keys)
    assert torch.equal(storage.read()[1], values)


def test_forks_go_on_for_themselves() -> None:
    sizes = Sizes(init=2, local=6, block=4, top=2, representatives=2)
    keys, queries, values = data(60, seed=0)

    def read(storage: InfLLM, begin: int, end: int, asked: Tensor) -> tuple[InfLLM, Tensor]:
        storage = storage.append(keys[..., begin:end, :], values[..., begin:end, :])
        return storage, storage.recall(end - begin, lambda last: asked[..., end - last : end, :])[1]

    base, _ = read(InfLLM(sizes), 0, 30, queries)
    alone, expected = read(read(base, 30, 45, queries)[0], 45, 60, queries)
    read(read(base, 30, 45, -queries)[0], 45, 60, -queries)  # a fork with other queries
    again, found = read(read(base, 30, 45, queries)[0], 45, 60, queries)
    assert torch.equal(expected, found)
    cut = alone.gather(torch.arange(50).expand(ROWS, KV_HEADS, 50))  # taken back, and read again
    assert cut.units == 50
    assert torch.equal(cut.read()[1], values[..., :50, :])
    assert torch.equal(read(cut, 50, 60, queries)[0].read()[0], again.read()[0])
    rows = alone.select_batch(torch.tensor([1, 1]))
    assert torch.equal(rows.recall(15, lambda last: queries[[1, 1], :, 60 - last :])[1], expected[[1, 1]])


@pytest.mark.parametrize("attention", ["split", "masked", "eager"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gemma3_text"])
def test_logits_equal_a_dense_pass_under_the_mask_of_what_was_not_recalled(family: str, attention: str) -> None:
    model: Any = TINY_MODELS[family]()
    storage = make_infllm(init=5, local=12, block=8, top=3, representatives=2)
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=BUDGET, attention=attention, storage=storage)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(1))
    budgeted = locret.BudgetCache(model, policy=engine.policy, budget=BUDGET).budgeted
    with recorded_recalls(InfLLM, budgeted) as reading:
        session = engine.prefill(ids)
        result = engine.generate(session, 7)
    everything = torch.cat([ids, torch.tensor([result.token_ids[:-1]])], -1)
    expected = dense_logits(model, everything, reading)[0, [202, -1]]
    found = torch.stack([session.logits, result.session.logits])  # after the prompt, and after the answer
    assert (found - expected).norm() / expected.norm() < 1e-4
    assert all(step.kept is None or step.kept[budgeted[0]].shape[-1] <= 5 + 3 * 8 + 12 + 7 for step in reading.passes)
    plain = engine_logits(model, ids, "dense")
    assert (found[0] - plain).norm() / plain.norm() > 1e-2  # and something was hidden indeed


def engine_logits(model: Any, ids: Tensor, storage: Any) -> Tensor:
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=BUDGET, storage=storage)
    return engine.prefill(ids).logits


@pytest.mark.parametrize("storage", ["infllm", make_infllm(init=3, local=9, block=7, top=40)])
@pytest.mark.parametrize("positions", ["true", "compact"])
def test_it_is_full_attention_where_all_blocks_are_recalled(storage: Any, positions: str) -> None:
    model = tiny_llama()
    budget = locret.Budget(size=40, chunk=32, stabilizers=8, local=10, positions=positions)
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=budget, storage=storage)
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(2))
    session = engine.prefill(ids)
    with torch.no_grad():
        plain = model(input_ids=ids, past_key_values=DynamicCache(config=model.config)).logits[0, -1]
    assert (session.logits - plain).norm() / plain.norm() < 1e-5
    expected = model.generate(ids, max_new_tokens=7, do_sample=False)[0, 203:].tolist()
    assert engine.generate(session, 7).token_ids == expected


def test_memory_off_the_device_is_where_the_blocks_are() -> None:
    sizes = Sizes(init=2, local=6, block=4, top=2, representatives=2)
    keys, queries, values = data(100, seed=3)
    storage = InfLLM(sizes)
    for begin in range(0, 100, 10):
        storage = storage.append(keys[..., begin : begin + 10, :], values[..., begin : begin + 10, :])
        storage.recall(10, lambda last, end=begin + 10: queries[..., end - last : end, :])
    units = keys.nbytes + values.nbytes
    small = ROWS * KV_HEADS * (100 * 4 + len(storage.blocks) * DIM * 4)  # worth of units, representatives of blocks
    assert storage.nbytes + storage.offloaded_bytes == units + small


def test_the_blocks_used_last_stay_on_the_device() -> None:
    pieces = [HostPiece(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2)) for _ in range(4)]
    resident, device = Resident(2), torch.device("meta")
    first = resident.fetch(pieces[0], device)
    assert first[0].device == device
    assert resident.fetch(pieces[0], device)[0] is first[0]
    resident.fetch(pieces[1], device)
    resident.fetch(pieces[0], device)
    resident.fetch(pieces[2], device)
    assert set(resident.held) == {pieces[0], pieces[2]}  # the least recently used has gone
    assert resident.nbytes == 2 * 2 * 4 * 2 * 4
    assert Resident(2).fetch(pieces[3], torch.device("cpu"))[0] is pieces[3].keys  # nothing to bring


def test_what_does_not_go_together_is_refused() -> None:
    model = tiny_llama()
    with pytest.raises(locret.LocretError, match="keeps everything"):
        locret.BudgetCache(model, policy=locret.get_policy("streaming_llm"), budget=BUDGET, storage="infllm")
    with pytest.raises(locret.LocretError, match="local is 0: give at least 1"):
        make_infllm(local=0)
    storage = InfLLM(Sizes(init=0, local=1, block=1, top=1)).append(*torch.randn(2, 1, 1, 8, 4))
    with pytest.raises(locret.LocretError, match="hooks are off"):
        storage.append(*torch.randn(2, 1, 1, 2, 4)).recall(2, None)


def test_padding_is_refused_once_units_are_hidden() -> None:
    model = tiny_llama(eos_token_id=None)
    cache = locret.BudgetCache(
        model, policy=locret.get_policy("full"), budget=BUDGET, storage=make_infllm(init=2, local=8, block=4, top=2)
    )
    ids = torch.randint(1, 97, (2, 90), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[0, :20] = 0
    with pytest.raises(locret.LocretError, match="read the prompts one by one"):
        model.generate(ids, attention_mask=mask, past_key_values=cache, max_new_tokens=3, do_sample=False)


def test_a_batch_of_one_length_equals_each_prompt_alone() -> None:
    model = tiny_llama()
    storage = make_infllm(init=2, local=8, block=4, top=2)
    ids = torch.randint(1, 97, (2, 90), generator=torch.Generator().manual_seed(5))

    def answers(prompts: Tensor) -> Tensor:
        cache = locret.BudgetCache(model, policy=locret.get_policy("full"), budget=BUDGET, storage=storage)
        return model.generate(prompts, past_key_values=cache, max_new_tokens=5, do_sample=False)

    assert torch.equal(answers(ids), torch.cat([answers(ids[:1]), answers(ids[1:])]))
