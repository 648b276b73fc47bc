"""What a policy computes with while it scores the units of a pass; scores themselves are counted with the units."""

from __future__ import annotations

from collections.abc import Callable

from locret.cache.surprise import TOKENS_AT_ONCE
from locret.plan.kv import Pass
from locret.plan.sizes import Sizes
from locret.plan.work import FP32, INT64, Terms
from locret.policies.statistics import QUERIES_AT_ONCE

AFTER_PASS = frozenset({"sirllm"})  # units stay until the pass is over, and with them what the policy may look at
USES_HEADS = frozenset({"locret", "locret_q"})
Scoring = Callable[[Sizes, Pass, int, int], Terms]


def scoring(policy: str, sizes: Sizes, at: Pass, element: int, width: int) -> Terms:
    """Named bytes of one layer's scoring.

    Args:
        policy: its name; one that is not in the table computes nothing large.
        sizes: of the model.
        at: the pass.
        element: bytes of a number in the model's precision.
        width: hidden width of the retaining heads.
    """
    return SCORING[policy](sizes, at, element, width) if policy in SCORING else {}


def after_pass(policy: str, sizes: Sizes, at: Pass) -> Terms:
    """Named bytes of what a policy computes when a pass is over, from the model's predictions."""
    if policy not in AFTER_PASS:
        return {}
    # Logits in fp32 before and after their scaling; and of all but the first block, those of the block before.
    blocks = 3 if at.new - 1 > TOKENS_AT_ONCE else 2
    return {"logits": blocks * min(TOKENS_AT_ONCE, at.new) * sizes.vocabulary * FP32}


def _heads(sizes: Sizes, at: Pass, element: int, width: int) -> Terms:
    """[q; k; v] of every token, and the hidden layer before and after its activation."""
    return {"retaining head": at.new * (sizes.shapes.features + 2 * width) * element}


def _statistics(queries: int) -> Scoring:
    """Attention computed once more for `queries` of the new tokens, some at a time, in fp32."""

    def terms(sizes: Sizes, at: Pass, element: int, width: int) -> Terms:
        asked = min(queries, at.new)
        rows = min(asked, QUERIES_AT_ONCE)
        keys = 0 if element == FP32 else at.units * sizes.kv_width * FP32
        summed = (sizes.shapes.q_heads + sizes.shapes.kv_heads) * at.units * FP32
        heads, shared = sizes.shapes.q_heads, sizes.shapes.kv_heads
        return {
            "queries in fp32": asked * sizes.q_width * FP32,
            "keys in fp32": keys,
            # logits and their softmax, and what is hidden
            "attention once more": rows * at.units * (2 * heads * FP32 + shared),
            "attention summed": summed,
        }

    return terms


SCORING: dict[str, Scoring] = {
    "locret": _heads,
    "locret_q": _heads,
    "h2o": _statistics(1 << 62),
    "snapkv": _statistics(32),
    "tova": _statistics(1),
    "random": lambda sizes, at, element, width: {"hashing": 5 * sizes.shapes.kv_heads * at.new * INT64},
}
