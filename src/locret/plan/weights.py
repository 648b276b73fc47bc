"""Weights: how many a model has, exactly, and what they take in a precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from locret.models.families import Shapes, decoder_of

GROUP = 64  # weights that share a scale in 4 bits; in 8 bits it is those of a row
SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Weights:
    """Counts of a model's weights: numbers, not bytes.

    Attributes:
        total: all of them; tied ones count once.
        linear: those of linear maps inside the decoder layers, experts included.
        active: of these the ones that one token goes through; of several experts only those it is sent to.
        packable: those of `nn.Linear` modules, which is what a quantiser packs; experts are no such modules.
        rows: output rows of these modules.
        largest: weights of the largest of them.
    """

    total: int
    linear: int
    active: int
    packable: int
    rows: int
    largest: int

    def nbytes(self, element: int, bits: int | None = None) -> int:
        """Bytes of all weights.

        Args:
            element: bytes of a number in the model's precision.
            bits: 4 or 8 where bitsandbytes has packed them; None for the model's precision.
        """
        if bits is None:
            return self.total * element
        scales = self.packable // GROUP if bits == 4 else self.rows
        return (self.total - self.packable) * element + self.packable * bits // 8 + scales * SCALE_BYTES


def count_weights(model: nn.Module, share: float = 1.0) -> Weights:
    """Count the weights of a model, which may be on the meta device.

    Args:
        model: a causal language model of transformers.
        share: the part of all experts that one token is sent to.
    """
    layers: Any = decoder_of(model).layers
    shapes = [weight.shape for weight in layers.parameters()]
    dense = sum(shape.numel() for shape in shapes if len(shape) == 2)
    routed = sum(shape.numel() for shape in shapes if len(shape) == 3)  # experts: [experts, out, in]
    modules = [module.weight for module in layers.modules() if type(module) is nn.Linear]
    return Weights(
        total=sum(weight.numel() for weight in model.parameters()),
        linear=dense + routed,
        active=dense + round(routed * share),
        packable=sum(weight.numel() for weight in modules),
        rows=sum(weight.shape[0] for weight in modules),
        largest=max(weight.numel() for weight in modules),
    )


def head_count(shapes: Shapes, width: int) -> int:
    """Weights of the retaining heads of all layers (`RetainingHeads`): fc1 and fc2, no biases, not folded."""
    return shapes.layers * width * (shapes.features + shapes.kv_heads)
