"""What a set of retaining heads was made for, as it stands beside the weights in `heads.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from transformers.activations import ACT2FN

from locret.errors import LocretError
from locret.models.families import Shapes

WIDTH = 1024  # of the paper's heads


@dataclass(frozen=True, slots=True)
class HeadsConfig:
    """What a set of retaining heads was made for.

    Attributes:
        model_type: transformers' model type of the backbone.
        layers, q_heads, kv_heads, head_dim: the backbone's attention sizes.
        width: d_R, the hidden width of each head.
        activation: name of the activation between fc1 and fc2.
        objective: the label the heads were trained on; "" for heads that are not trained.
        fingerprint: samples of the backbone's weights (`fingerprint_of`); empty where unknown.
    """

    model_type: str
    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    width: int = WIDTH
    activation: str = "silu"
    objective: str = ""
    fingerprint: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width < 1:
            raise LocretError(f"width is {self.width}: a retaining head needs a width of at least 1")
        if self.activation not in ACT2FN:
            raise LocretError(f"activation is {self.activation!r}: transformers has {', '.join(sorted(ACT2FN))}")

    @property
    def shapes(self) -> Shapes:
        """The backbone's attention sizes."""
        return Shapes(self.layers, self.q_heads, self.kv_heads, self.head_dim)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, by their names in a state dict of `RetainingHeads`."""
        first, second = (self.width, self.shapes.features), (self.kv_heads, self.width)
        return {
            f"layers.{layer}.{name}.weight": shape
            for layer in range(self.layers)
            for name, shape in (("fc1", first), ("fc2", second))
        }

    @property
    def parameters(self) -> int:
        """How many weights all layers have together."""
        return sum(math.prod(shape) for shape in self.tensors.values())
