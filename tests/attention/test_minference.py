"""MInference: what each pattern shows, against loops; the gathered computation, against the whole matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import locret
from locret.attention import Pattern, Patterns, search_patterns, set_patterns, use_patterns
from locret.attention.columns import BLOCKS, Heads, covers, estimate, tiles, visible_keys
from locret.attention.lse import attention_with_lse
from locret.attention.minference import naive_sparse_attention, sparse_attention
from locret.attention.split import split_attention
from tests.conftest import TINY_MODELS, tiny_llama

ROWS, KV_HEADS, GROUP, DIM = 2, 2, 2, 16
PATTERNS = [
    Pattern("stream_llm", 5, 40),
    Pattern("stream_llm", 0, 0),
    Pattern("vertical_and_slash", 40, 110),
    Pattern("vertical_and_slash", 200, 60),
    Pattern("block_sparse", 8, 1),
]


def tensors(new: int, total: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(new * 1000 + total)
    shapes = [(ROWS, KV_HEADS * GROUP, new, DIM), (ROWS, KV_HEADS, total, DIM), (ROWS, KV_HEADS, total, DIM)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def best(scores: Tensor, count: int, always: range) -> set[int]:
    """The `count` highest, those in `always` before all others."""
    order = sorted(range(len(scores)), key=lambda i: (i not in always, -float(scores[i])))
    return set(order[:count])


def naive_visible(query: Tensor, key: Tensor, scaling: float, pattern: Pattern) -> Tensor:
    """Which keys [total] each query [new] of one head sees, by the definition: [new, total]."""
    new, total = len(query), len(key)
    stored, seen = total - new, torch.zeros(new, total, dtype=torch.bool)
    columns, diagonals = torch.zeros(total), torch.zeros(total)
    for position in range(max(total - 64, stored), total):
        weights = (key[: position + 1] @ query[position - stored] * scaling).softmax(0)
        for at, weight in enumerate(weights):
            columns[at] += weight
            diagonals[position - at] += weight
    slash = max(pattern.slash, 50)
    chosen_columns = best(columns, max(pattern.vertical, 30), range(30))
    chosen_diagonals = best(diagonals, slash, range(min(slash, 100)))
    for position in range(stored, total):
        tile = range(max(position // 64 * 64, stored), min(position // 64 * 64 + 64, total))
        blocks = [key[start : min(start + 64, total)].mean(0) for start in range(0, tile[-1] + 1, 64)]
        pooled = query[tile[0] - stored : tile[-1] + 1 - stored].mean(0)
        likeness = torch.stack([block @ pooled for block in blocks])
        chosen_blocks = best(likeness, BLOCKS, range(len(blocks) - 1, len(blocks)))
        for at in range(position + 1):
            if pattern.name == "stream_llm":
                shown = at < pattern.vertical or tile[0] - at < max(pattern.slash, 1)
            elif pattern.name == "block_sparse":
                shown = at // 64 in chosen_blocks
            else:
                shown = at in chosen_columns or any(other - at in chosen_diagonals for other in tile)
            seen[position - stored, at] = shown
    return seen


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("new", "stored"), [(150, 0), (70, 190), (3, 130)])
def test_patterns_show_what_the_definition_says(
    pattern: Pattern, new: int, stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locret.attention.columns.BLOCKS", 2)
    monkeypatch.setattr("tests.attention.test_minference.BLOCKS", 2)
    query, key, _ = tensors(new, stored + new)
    heads = Heads(query[:, :GROUP], key[:, 0], 0.9)
    found = torch.zeros(ROWS, GROUP, new, stored + new, dtype=torch.bool)
    for begin, end, mask in visible_keys(heads, pattern):
        found[:, :, begin - stored : end - stored, :begin] = mask[:, :, None]
        found[:, :, begin - stored : end - stored, begin:end] = True
    found &= torch.ones(new, stored + new, dtype=torch.bool).tril(stored)
    for row in range(ROWS):
        for head in range(GROUP):
            expected = naive_visible(query[row, head], key[row, 0], 0.9, pattern)
            assert torch.equal(found[row, head], expected)
    assert found.diagonal(stored, -2, -1).all()  # every query sees itself


@pytest.mark.parametrize(("new", "stored"), [(2, 0), (64, 0), (150, 0), (70, 190), (3, 130), (128, 64)])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_gathered_equals_the_masked_matrix(new: int, stored: int, dtype: torch.dtype, tolerance: float) -> None:
    query, key, value = tensors(new, stored + new, dtype)
    for patterns in ([PATTERNS[0], PATTERNS[2], PATTERNS[2], PATTERNS[4]], [PATTERNS[3]] * 4, [PATTERNS[1]] * 4):
        found = sparse_attention(query, key, value, patterns, 0.3)
        expected = naive_sparse_attention(query, key, value, patterns, 0.3)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_patterns_that_cover_everything_are_full_attention() -> None:
    query, key, value = tensors(100, 250)
    expected, _ = split_attention(torch.nn.Identity(), query, key, value, None, scaling=0.3)
    for pattern in (Pattern(), Pattern("stream_llm", 250, 1), Pattern("stream_llm", 0, 250), Pattern("block_sparse")):
        assert covers(pattern, 250)
        found = sparse_attention(query, key, value, [pattern] * 4, 0.3)
        torch.testing.assert_close(found.transpose(1, 2), expected, rtol=1e-5, atol=1e-5)
    assert not covers(Pattern("stream_llm", 100, 149), 250)
    assert not covers(Pattern("vertical_and_slash", 200, 249), 250)
    assert not covers(Pattern("block_sparse"), 64 * BLOCKS + 1)


def test_less_is_computed_where_less_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []

    def noting(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> tuple[Tensor, Tensor]:
        if not causal:  # the tile's own 64 keys
            widths.append(key.shape[-2])
        return attention_with_lse(query, key, value, scaling, causal)

    monkeypatch.setattr("locret.attention.minference.attention_with_lse", noting)
    query, key, value = tensors(64, 4096)
    sparse_attention(query, key, value, [Pattern("stream_llm", 100, 800)] * 4, 0.3)
    assert set(widths) == {100 + 800 - 1}
    widths.clear()
    sparse_attention(query, key, value, [Pattern("vertical_and_slash", 30, 100)] * 4, 0.3)
    assert max(widths) <= 30 + 100
    widths.clear()
    sparse_attention(query, key, value, [Pattern("block_sparse")] * 4, 0.3)
    assert set(widths) == {4096 - 64}  # 64 blocks are fewer than the 100 best


def test_tiles_of_chunks_are_those_of_one_pass() -> None:
    assert tiles(0, 130) == [(0, 64), (64, 128), (128, 130)]
    assert tiles(100, 90) == [(100, 128), (128, 190)]
    assert tiles(128, 64) == [(128, 192)]
    assert tiles(5, 1) == [(5, 6)]


def test_the_estimate_finds_a_column_and_a_diagonal() -> None:
    total = 400
    key = torch.randn(1, total, 64, generator=torch.Generator().manual_seed(0))
    key /= key.norm(dim=-1, keepdim=True)
    query = torch.stack([key[0, (i - 230) % total] + key[0, 77] for i in range(total)])[None, None]
    columns, diagonals = estimate(Heads(query, key, 30.0), Pattern("vertical_and_slash", 31, 101))
    assert columns[0, 0].nonzero().flatten().tolist() == [*range(30), 77]
    assert diagonals[0, 0].nonzero().flatten().tolist() == [*range(100), 230]


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


BUDGET = locret.Budget(size=40, chunk=96, local=10)


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "gemma3_text"])
def test_the_default_is_exact_on_short_prompts(family: str) -> None:
    model: Any = TINY_MODELS[family]()
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=BUDGET, attention="minference")
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(2))
    session = engine.prefill(ids)
    with torch.no_grad():
        plain = model(input_ids=ids, past_key_values=DynamicCache(config=model.config)).logits[0, -1]
    assert relative_error(session.logits, plain) < 1e-5
    expected = model.generate(ids, max_new_tokens=7, do_sample=False)[0, 203:].tolist()
    assert engine.generate(session, 7).token_ids == expected


def test_patterns_of_a_model_are_used_and_forgotten() -> None:
    model = tiny_llama()
    ids = torch.randint(1, 97, (1, 203), generator=torch.Generator().manual_seed(2))
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=BUDGET, attention="minference")
    dense = engine.prefill(ids).logits
    narrow = Patterns(default=Pattern("stream_llm", 4, 8))
    with use_patterns(model, narrow):
        assert relative_error(engine.prefill(ids).logits, dense) > 1e-3
    assert torch.equal(engine.prefill(ids).logits, dense)
    one_head = Patterns(({0: (Pattern("stream_llm", 4, 8), 0.5)}, {}, {}))
    with use_patterns(model, one_head):
        assert relative_error(engine.prefill(ids).logits, dense) > 1e-6


def test_the_published_format_is_read_and_written(tmp_path: Path) -> None:
    published = [
        {"0": ["vertical_and_slash", 1000, 6096, 0.964], "1": ["stream_llm", 100, 800, 0.9]},
        {"0": ["block_sparse", 10, 1, 0.5], "1": ["vertical_and_slash", 30, 800, 1.0]},
    ]
    path = tmp_path / "patterns.json"
    path.write_text(json.dumps(published))
    patterns = Patterns.load(path)
    assert patterns.of(0, 3) == [Pattern(), Pattern("stream_llm", 100, 800), Pattern()]  # a missing head: the default
    patterns.save(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == published


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is not JSON"),
        ("[[1, 2]]", "no file of MInference patterns"),
        ('[{"0": ["vertical_and_slash", 1000]}]', "no file of MInference patterns"),
        ('[{"0": ["tri_shape", 1, 2, 0.5]}]', "unknown pattern 'tri_shape'"),
        ('[{"0": ["stream_llm", -1, 2, 0.5]}]', "vertical -1"),
        ('{"0": 3}', "no file of MInference patterns"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "patterns.json").write_text(text)
    with pytest.raises(locret.LocretError, match=message):
        Patterns.load(tmp_path / "patterns.json")


def test_patterns_of_another_model_are_refused(tmp_path: Path) -> None:
    model = tiny_llama()
    with pytest.raises(locret.LocretError, match="for 2 layers and the model has 3"):
        set_patterns(model, Patterns(({}, {})))
    with pytest.raises(locret.LocretError, match="for 10 or more query heads and the model has 6"):
        set_patterns(model, Patterns(({9: (Pattern(), 1.0)}, {}, {})))
    with pytest.raises(locret.LocretError, match=r"cannot read .*missing\.json"):
        Patterns.load(tmp_path / "missing.json")


def test_the_search_finds_the_pattern_that_recalls_most(tmp_path: Path) -> None:
    model = tiny_llama()
    ids = torch.randint(1, 97, (1, 300), generator=torch.Generator().manual_seed(2))
    narrow, wide, everything = (Pattern("stream_llm", 2, size) for size in (2, 60, 300))
    found = search_patterns(model, ids, [narrow, wide])
    assert all(found.of(layer, 6) == [wide] * 6 for layer in range(3))
    shares = [share for own in found.layers for _, share in own.values()]
    assert all(0.1 < share < 1 for share in shares)
    best_of_all = search_patterns(model, ids, [wide, everything])
    assert {share for own in best_of_all.layers for _, share in own.values()} == {1.0}
    found.save(tmp_path / "found.json")
    assert Patterns.load(tmp_path / "found.json") == found
    assert search_patterns(model, ids).of(0, 6)  # the published candidates
    with pytest.raises(locret.LocretError, match="needs candidates"):
        search_patterns(model, ids, [])


def test_the_share_is_the_mean_over_queries() -> None:
    model = tiny_llama(num_hidden_layers=1)
    ids = torch.randint(1, 97, (1, 100), generator=torch.Generator().manual_seed(3))
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attention = model(ids, output_attentions=True).attentions[0][0]  # [heads, queries, keys]
    tile_start = torch.arange(100) // 64 * 64
    shown = tile_start[:, None] - torch.arange(100) < 10
    expected = (attention * shown)[:, 20:].sum(-1).mean(-1)
    found = search_patterns(model, ids, [Pattern("stream_llm", 0, 10)], skip=20)
    torch.testing.assert_close(torch.tensor([share for _, share in found.layers[0].values()]), expected)


def test_what_does_not_go_together_is_refused() -> None:
    model, full = tiny_llama(), locret.get_policy("full")
    for settings, message in [
        ({"policy": locret.get_policy("streaming_llm"), "budget": BUDGET}, "a policy that evicts"),
        ({"policy": full, "budget": BUDGET, "storage": "infllm"}, "a storage that shows each pass other units"),
        ({"policy": full, "budget": locret.Budget(size=40, positions="compact")}, 'use it with positions="true"'),
    ]:
        with pytest.raises(locret.LocretError, match=message):
            locret.Engine(model, attention="minference", **settings)
