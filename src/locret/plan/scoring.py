"""What a policy computes with while it scores the units of a pass; scores themselves are counted with the units."""

from __future__ import annotations

from collections.abc import Callable

from locret.cache.surprise import TOKENS_AT_ONCE
from locret.plan.kv import Pass
from locret.plan.sizes import Sizes
from locret.plan.work import FP32, INT64, Terms, Work
from locret.policies.statistics import QUERIES_AT_ONCE

AFTER_PASS = frozenset({"sirllm"})  # units stay until the pass is over, and with them what the policy may look at
USES_HEADS = frozenset({"locret", "locret_q"})
Scoring = Callable[[Work], Terms]


def scoring(w: Work) -> Terms:
    """Named bytes of one layer's scoring; a policy that is not in the table computes nothing large."""
    return SCORING[w.policy](w) if w.policy in SCORING else {}


def after_pass(policy: str, sizes: Sizes, at: Pass) -> Terms:
    """Named bytes of what a policy computes when a pass is over, from the model's predictions."""
    if policy not in AFTER_PASS:
        return {}
    # Logits in fp32 before and after their scaling; and of all but the first block, those of the block before.
    blocks = 3 if at.new - 1 > TOKENS_AT_ONCE else 2
    return {"logits": blocks * min(TOKENS_AT_ONCE, at.new) * sizes.vocabulary * FP32}


def _heads(w: Work) -> Terms:
    """The hidden layer before and after its activation, and without folding [q; k; v] of every token."""
    return {"retaining head": w.tokens(2 * w.width + (0 if w.folds else w.sizes.shapes.features))}


def _statistics(queries: int) -> Scoring:
    """Attention computed once more for `queries` of the new tokens, some at a time, in fp32."""

    def terms(w: Work) -> Terms:
        at, sizes = w.at, w.sizes
        asked = min(queries, at.new)
        rows = min(asked, QUERIES_AT_ONCE)
        keys = 0 if w.element == FP32 else at.units * sizes.kv_width * FP32
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
    "random": lambda w: {"hashing": 5 * w.units(w.at.new, INT64)},
}
