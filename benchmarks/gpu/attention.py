"""Ways to compute a chunk's attention over stored units and itself, beside one another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.gpu.run import Row, message
from benchmarks.gpu.setting import Setting
from locret.attention.cudnn import cudnn_attention_with_lse
from locret.attention.lse import attention_with_lse, merge
from locret.bench.measure import synchronise
from locret.models.families import shapes_of

TRIES = 20
SPLIT = "split"  # the engine's own, in its first calls
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}  # relative error (2-norm)
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attention(setting: Setting, shape: str) -> Row:
    """Each alternative's time and error; the fastest of the right ones is named."""
    torch.manual_seed(0)
    shapes, new, stored = shapes_of(setting.config(shape)), setting.budget.chunk, setting.budget.size
    query, key, value = (
        torch.randn(1, heads, tokens, shapes.head_dim, device=setting.device).to(setting.dtype)
        for heads, tokens in ((shapes.q_heads, new), *2 * [(shapes.kv_heads, stored + new)])
    )
    expected, found = naive(query, key, value), []
    for name, make in alternatives(setting, new, stored):
        found.append({"name": name, **_tried(make, (query, key, value), expected, setting)})
    right = [row for row in found if row.get("milliseconds") is not None and row["right"]]
    best = min(right, key=lambda row: row["milliseconds"]) if right else None
    return {
        "passed": any(row["name"] == SPLIT for row in right),
        "new": new,
        "stored": stored,
        "best": best["name"] if best else None,
        "alternatives": found,
    }


def alternatives(setting: Setting, new: int, stored: int) -> Iterator[tuple[str, Callable[[], Attend]]]:
    """Makers of the alternatives by name; a maker raises where its library is not here."""

    def split(part: Callable[[Tensor, Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]) -> Attend:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            scale = query.shape[-1] ** -0.5
            past = part(query, key[..., :stored, :], value[..., :stored, :], scale, False)
            return merge([past, part(query, key[..., stored:, :], value[..., stored:, :], scale, True)])

        return attend

    def masked() -> Attend:
        mask = visible(new, stored, setting.device)
        return lambda query, key, value: scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)

    def lower_right() -> Attend:
        bias: Any = causal_lower_right(new, stored + new)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            heads = query.shape[1]
            return scaled_dot_product_attention(query, repeated(key, heads), repeated(value, heads), bias)

        # Where CUDA has a flash kernel, it aligns a rectangle so, and reads a KV head for its whole group.
        return flash if setting.cuda and setting.dtype != torch.float32 else attend

    def flex() -> Attend:
        block_mask = create_block_mask(
            lambda batch, head, q, k: k <= q + stored, None, None, new, stored + new, device=setting.device
        )
        attend: Any = torch.compile(flex_attention) if setting.cuda else flex_attention
        return lambda query, key, value: attend(query, key, value, block_mask=block_mask, enable_gqa=True)

    def flash_attn() -> Attend:
        from flash_attn import flash_attn_func

        return lambda query, key, value: flash_attn_func(
            *(part.transpose(1, 2) for part in (query, key, value)), causal=True
        ).transpose(1, 2)

    yield from (
        (SPLIT, lambda: split(attention_with_lse)), ("split, cudnn", lambda: split(cudnn_attention_with_lse)),
        ("sdpa, mask", masked), ("lower right", lower_right), ("flex", flex), ("flash_attn", flash_attn),
    )  # fmt: skip


def flash(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The flash kernel that scaled_dot_product_attention chooses for `causal_lower_right`."""
    output: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, True)[0]
    return output


def naive(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """By the definition, in fp32, for the query heads of the first KV head only: all would not fit."""
    group, new = query.shape[1] // key.shape[1], query.shape[2]
    scores = query[:, :group].float() @ key[:, :1].float().mT * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~visible(new, key.shape[2] - new, query.device), -torch.inf)
    return scores.softmax(dim=-1) @ value[:, :1].float()


def visible(new: int, stored: int, device: torch.device) -> Tensor:
    """What query i sees: all stored units, and of the new ones those up to itself; bool [new, stored + new]."""
    return torch.ones(new, stored + new, dtype=torch.bool, device=device).tril(stored)


def repeated(part: Tensor, heads: int) -> Tensor:
    """Keys or values for every query head."""
    return part.repeat_interleave(heads // part.shape[1], 1)


def _tried(
    make: Callable[[], Attend], parts: tuple[Tensor, Tensor, Tensor], expected: Tensor, setting: Setting
) -> dict[str, Any]:
    try:
        attend = make()
        with torch.no_grad():
            output = attend(*parts)  # compiles, too
            milliseconds = median(_timed(attend, parts, setting) for _ in range(2 if setting.tiny else TRIES))
    except Exception as error:  # not installed, or not for this device: the others are still compared
        return {"milliseconds": None, "error": message(error)}
    wrong = float((output[:, : expected.shape[1]].float() - expected).norm() / expected.norm())
    return {"milliseconds": milliseconds, "relative_error": wrong, "right": wrong <= TOLERANCE[setting.dtype]}


def _timed(attend: Attend, parts: tuple[Tensor, Tensor, Tensor], setting: Setting) -> float:
    synchronise(setting.device)
    began = time.perf_counter()
    attend(*parts)
    synchronise(setting.device)
    return 1000 * (time.perf_counter() - began)
