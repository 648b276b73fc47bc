"""Weights: how many a model has, exactly, and what they take in a precision."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from locret.models.families import Shapes, decoder_of

PACKED_BITS = (4, 8)
GROUP = 64  # weights that share a 32-bit scale in 4 bits (bitsandbytes' NF4 without double quantisation)
SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Weights:
    """Counts of a model's weights: numbers, not bytes.

    Attributes:
        total: all of them; tied ones count once.
        linear: those of linear maps inside the decoder layers, which weight quantisers pack.
        rows: output rows of these maps.
        largest: those of the largest single map; experts count one by one.
        active: linear ones that one token goes through; of several experts only those it is sent to.
    """

    total: int
    linear: int
    rows: int
    largest: int
    active: int

    def nbytes(self, element: int, bits: int | None = None) -> int:
        """Bytes of all weights.

        Args:
            element: bytes of a number in the model's precision.
            bits: 4 or 8 for linear maps packed by bitsandbytes; None for the model's precision.
        """
        if bits is None:
            return self.total * element
        scales = self.linear // GROUP if bits == 4 else self.rows
        return (self.total - self.linear) * element + self.linear * bits // 8 + scales * SCALE_BYTES


def count_weights(model: nn.Module, share: float = 1.0) -> Weights:
    """Count the weights of a model, which may be on the meta device.

    Args:
        model: a causal language model of transformers.
        share: the part of all experts that one token is sent to.
    """
    own = [p.shape for p in decoder_of(model).layers.parameters()]  # type: ignore[union-attr]
    maps = [shape for shape in own if len(shape) == 2]
    stacks = [shape for shape in own if len(shape) == 3]  # experts: [experts, out, in]
    dense, routed = sum(shape.numel() for shape in maps), sum(shape.numel() for shape in stacks)
    return Weights(
        total=sum(p.numel() for p in model.parameters()),
        linear=dense + routed,
        rows=sum(shape[0] for shape in maps) + sum(shape[0] * shape[1] for shape in stacks),
        largest=max([shape.numel() for shape in maps] + [shape[1] * shape[2] for shape in stacks]),
        active=dense + round(routed * share),
    )


def head_count(shapes: Shapes, width: int) -> int:
    """Weights of the retaining heads of all layers (`RetainingHeads`): fc1 and fc2, no biases."""
    return shapes.layers * width * (shapes.features + shapes.kv_heads)
