"""The estimate: what reading a prompt takes at its peak, in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from locret.cache.budget import Budget
from locret.cache.room import room_for
from locret.models.folding import folds
from locret.plan.kv import Pass, turning_passes
from locret.plan.moments import moments
from locret.plan.scoring import AFTER_PASS, USES_HEADS, after_pass
from locret.plan.sizes import Sizes
from locret.plan.storages import UnitBytes
from locret.plan.weights import head_count
from locret.plan.work import FP32, Terms, Work

FULL = "full"
CONTEXT_BYTES = 512 << 20  # what a CUDA process holds beside its tensors: context, kernels, workspaces
ALLOCATOR_BYTES = 64 << 20  # freed memory that glibc keeps before it gives any back: twice its largest threshold


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model is to be run.

    Attributes:
        sizes: of the model.
        element: bytes of a number in the model's precision.
        unit: what a unit takes in its storage.
        weight_bits: 4 or 8 for packed weights; None for the model's precision.
        policy: name of what scores; "full" evicts nothing.
        width: hidden width of the retaining heads, of a policy that has them.
        cuda: on a CUDA device, not on the CPU.
    """

    sizes: Sizes
    element: int
    unit: UnitBytes
    weight_bits: int | None = None
    policy: str = "locret"
    width: int = 1024
    cuda: bool = True

    @property
    def folds(self) -> bool:
        """Whether retaining heads are folded with the projections; packed ones cannot be."""
        return self.weight_bits is None and folds(self.sizes.hidden, self.sizes.shapes.features)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes at the peak of reading a prompt; `total` is the sum of `weights`, `kv` on the device and `activations`.

    Attributes:
        weights: of the model.
        kv: keys and values when the prompt has been read, as `BudgetCache.kv_bytes` counts them.
        offloaded: those of `kv` that are not on the device, as `BudgetCache.offloaded_bytes` counts them.
        full_kv: the same without eviction, in the model's precision.
        activations: everything else: retaining heads, positions and scores of the units, and what one pass works with.
        heads: of the activations, weights of the retaining heads, with those folded with the projections.
        bookkeeping: of the activations, positions and scores of the stored units.
        reserve: held by the process beside its tensors; not in `total`.
        moment: when the peak is.
        terms: what is held at that moment besides weights, heads and bookkeeping.
    """

    weights: int
    kv: int
    offloaded: int
    full_kv: int
    activations: int
    heads: int
    bookkeeping: int
    reserve: int
    moment: str
    terms: Terms

    @property
    def total(self) -> int:
        """Bytes of all tensors on the device at the peak."""
        return self.weights + self.kv - self.offloaded + self.activations


def estimate(setting: Setting, length: int, budget: Budget) -> Estimate:
    """What reading `length` tokens takes.

    Args:
        setting: how the model is run.
        length: tokens of the prompt.
        budget: how much is kept of it.
    """
    passes = turning_passes(length, budget, setting.policy != FULL)
    compact = budget.positions == "compact"
    if compact and passes[-1].gaps and setting.unit.coded:
        setting = replace(setting, unit=replace(setting.unit, beside=FP32))
    sizes = setting.sizes
    slots = room_for(0, 0, length, budget, setting.policy != FULL).least if setting.unit.in_place else 0
    moment, terms = max(_peaks(setting, passes, length, compact, slots), key=lambda peak: sum(peak[1].values()))
    heads = _head_bytes(setting) if setting.policy in USES_HEADS else 0
    turned = FP32 if compact else 0
    units = max(each.kept for each in passes)
    bookkeeping = sizes.budget_layers * sizes.shapes.kv_heads * units * (2 * FP32 + turned)
    kv, offloaded = kv_bytes(setting, passes[-1]), offloaded_bytes(setting, passes[-1])
    weights = setting.sizes.weights.nbytes(setting.element, setting.weight_bits)
    return Estimate(
        weights=weights,
        kv=kv + offloaded,
        offloaded=offloaded,
        full_kv=full_kv_bytes(setting, length),
        activations=sum(terms.values()) + heads + bookkeeping - kv,
        heads=heads,
        bookkeeping=bookkeeping,
        reserve=CONTEXT_BYTES if setting.cuda else ALLOCATOR_BYTES,
        moment=moment,
        terms=terms,
    )


def _head_bytes(setting: Setting) -> int:
    """Weights of the retaining heads, as they are and folded."""
    sizes, width = setting.sizes, setting.width
    folded = sizes.budget_layers * width * sizes.hidden if setting.folds else 0
    return (head_count(sizes.shapes, width) + folded) * setting.element


def kv_bytes(setting: Setting, last: Pass) -> int:
    """Keys and values of all layers on the device after a pass; of a sliding window only what is visible."""
    sizes = setting.sizes
    layer = setting.unit.of(last.kept, 0 if last.cuts else last.new, last.lost)
    window = min(last.seen + last.new, sizes.window - 1) if sizes.window_layers else 0
    return sizes.shapes.kv_heads * (sizes.budget_layers * layer + sizes.window_layers * window * setting.unit.dense)


def offloaded_bytes(setting: Setting, last: Pass) -> int:
    """Keys and values of all layers elsewhere after a pass."""
    sizes = setting.sizes
    away = setting.unit.away(last.kept, 0 if last.cuts else last.new, last.lost)
    return sizes.shapes.kv_heads * sizes.budget_layers * away


def full_kv_bytes(setting: Setting, length: int) -> int:
    """Keys and values of a whole prompt in the model's precision, without eviction."""
    sizes = setting.sizes
    window = min(length, sizes.window - 1) if sizes.window_layers else 0
    units = sizes.budget_layers * length + sizes.window_layers * window
    return sizes.shapes.kv_heads * units * setting.unit.dense


def _peaks(setting: Setting, passes: list[Pass], length: int, compact: bool, slots: int) -> Iterator[tuple[str, Terms]]:
    """All moments of all passes, with what other layers hold and what is held by the side."""
    sizes, shapes = setting.sizes, setting.sizes.shapes
    late = setting.policy in AFTER_PASS
    for at in passes:
        if late:  # nothing is cut while the pass goes through the layers
            at = replace(at, kept=at.units)
        work = Work(
            sizes, at, setting.element, setting.unit, setting.policy, setting.width, compact, setting.cuda, slots,
            setting.folds,
        )  # fmt: skip
        held = work.after + (work.tokens(shapes.features) if late else 0)
        side = {
            "units of other layers": (sizes.budget_layers - 1) * (held + work.places),
            "windows": sizes.window_layers * work.dense(min(at.seen, max(sizes.window - 1, 0)) + at.new),
            "own q, k, v": work.tokens(shapes.features) if late else 0,
            "token ids": 0 if setting.cuda else 8 * length,
            "unpacked weights": sizes.weights.largest * setting.element if setting.weight_bits else 0,
        }
        for name, terms in moments(work).items():
            yield name, {**side, **terms}
        if late:
            own = {"units": held, "own q, k, v": 0, "hidden states": work.tokens(sizes.hidden)}
            yield "scores", {**side, **own, **after_pass(setting.policy, sizes, at)}
    last = passes[-1]
    hidden = 2 * last.new * sizes.hidden * setting.element
    logits = sizes.vocabulary * (setting.element + FP32)
    units = kv_bytes(setting, replace(last, new=slots, kept=slots) if slots else last)
    yield "logits", {"units": units, "hidden states": hidden, "logits": logits}
