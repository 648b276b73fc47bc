"""Memory while one pass goes through a layer: named terms of the moments at which a layer holds most.

A moment has a term for everything that is alive then; what was freed before it is absent. The terms follow the layers
of transformers and the cache and attention of this package as they are, and are checked against tensors of real passes.
"""

from __future__ import annotations

from collections.abc import Callable

from locret.plan.scoring import scoring
from locret.plan.units import appended, attended, cutting, decoding, grown, left, moving, selecting, stored
from locret.plan.work import FP32, Terms, Work


def moments(work: Work) -> dict[str, Terms]:
    """The terms of every moment of a pass through one budgeted layer; no terms for a moment that does not come."""
    found = {name: terms(work) for name, terms in MOMENTS.items()}
    return {name: {**_always(work), **terms} for name, terms in found.items() if terms}


def _always(w: Work) -> Terms:
    """What lives as long as the pass: the embeddings, the input of the layer, rotary tables, masks of windows."""
    kinds = 2 if w.sizes.window_layers else 1
    return {
        "embeddings": w.tokens(w.sizes.hidden),
        "layer input": w.tokens(w.sizes.hidden),
        "rotary tables": kinds * w.tokens(2 * w.sizes.rotary),
        "window mask": w.at.new * (w.sizes.window + w.at.new) if w.sizes.window_layers else 0,
    }


def _norm(w: Work) -> Terms:
    """Norms compute in fp32: the input, its square or product, and the result."""
    copies = 2 if w.element == FP32 else 3
    return {"norm": copies * w.at.new * w.sizes.hidden * FP32, **stored(w)}


def _rotary(w: Work) -> Terms:
    """The products of q with cos, and of the turned q with sin, and their sum."""
    return {**_projected(w), "rotary products": w.tokens(3 * w.sizes.q_width), **stored(w)}


def _projected(w: Work) -> Terms:
    """The normed input, and q, k, v before rotary embedding."""
    return {"normed input": _normed(w), "q, k, v": w.tokens(w.sizes.q_width + 2 * w.sizes.kv_width)}


def _arrived(w: Work) -> Terms:
    """The same with q and k after rotary embedding."""
    return {**_projected(w), "rotated q, k": w.tokens(w.sizes.q_width + w.sizes.kv_width)}


def _while_arriving(units: Callable[[Work], Terms]) -> Callable[[Work], Terms]:
    """A moment of the units while q, k and v are needed."""
    return lambda w: {**_arrived(w), **terms} if (terms := units(w)) else {}


def _score(w: Work) -> Terms:
    """What the policy computes with."""
    return {**_arrived(w), **grown(w), **scoring(w)}


def _while_cutting(units: Callable[[Work], Terms]) -> Callable[[Work], Terms]:
    """A moment of the units when the policy has seen q, k and v: attention needs q, and k and v are there still."""
    new = "new k, v"
    return lambda w: {**_asking(w), new: w.tokens(2 * w.sizes.kv_width), **terms} if (terms := units(w)) else {}


def _asking(w: Work) -> Terms:
    """What stays until attention is over; a fused projection holds all of q, k and v as long as one is needed."""
    fused = w.tokens(w.sizes.q_width + 2 * w.sizes.kv_width) if w.sizes.fused_attention else 0
    normed = w.tokens(w.sizes.q_width) if w.sizes.normed_queries else 0
    return {
        "normed input": _normed(w),
        "fused q, k, v": fused,
        "normed q": normed,
        "rotated q": w.tokens(w.sizes.q_width),
    }


def _attention(w: Work) -> Terms:
    """Two parts, over stored and over new units; then both merged, and put in order. The first pass has one part."""
    terms = {**_asking(w), **attended(w), "attention output": 2 * w.tokens(w.sizes.q_width)}
    if w.at.stored:
        terms["log-sum-exp"] = 4 * w.at.new * w.sizes.shapes.q_heads * FP32
        terms["merging"] = 2 * w.tokens(w.sizes.q_width)
    return terms


def _attention_kernel(w: Work) -> Terms:
    """What the part over stored units wants of its own on CUDA in fp32, for which there is no flash kernel.

    Keys and values of every query head, the matrix of scores, and two steps of its softmax.
    """
    if not w.cuda or not w.at.stored or w.element != FP32:
        return {}
    shown = w.unit.shown(w.at.stored, w.at.evicted)
    own = {
        "attention output": w.tokens(w.sizes.q_width),
        "repeated keys, values": 2 * shown * w.sizes.q_width * w.element,
        "attention scores": 3 * w.at.new * shown * w.sizes.shapes.q_heads * FP32,
    }
    return {**_asking(w), **attended(w), **own}


def _window(w: Work) -> Terms:
    """A layer with a sliding window: keys and values repeated for every query head, and the mask in numbers."""
    if not w.sizes.window_layers:
        return {}
    seen = min(w.at.seen, w.sizes.window - 1) + w.at.new
    return {
        **_asking(w),
        **left(w),
        "repeated keys, values": 2 * seen * w.sizes.q_width * w.element,
        "mask in numbers": w.at.new * seen * w.element,
        "attention output": w.tokens(w.sizes.q_width),
    }


def _mlp(w: Work) -> Terms:
    """Gate, up and their product, of all tokens, or of all experts that tokens are sent to."""
    sizes = w.sizes
    wide = (4 if sizes.fused_mlp else 3) * sizes.mlp
    if sizes.experts:
        wide = sizes.experts * max(sizes.hidden + 4 * sizes.mlp, 4 * sizes.hidden)
    residual = w.tokens(sizes.hidden)
    return {"normed input": _normed(w), "attention residual": residual, "MLP": w.tokens(wide), **left(w)}


def _normed(w: Work) -> int:
    return w.tokens(w.sizes.hidden) if w.sizes.normed_input else 0


MOMENTS: dict[str, Callable[[Work], Terms]] = {
    "norm": _norm,
    "rotary": _rotary,
    "append": _while_arriving(appended),
    "decode": _while_arriving(decoding),
    "move": _while_arriving(moving),
    "score": _score,
    "select": _while_cutting(selecting),
    "cut": _while_cutting(cutting),
    "attention": _attention,
    "attention kernel": _attention_kernel,
    "window attention": _window,
    "mlp": _mlp,
}
