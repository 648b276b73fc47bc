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
        for name in ("layers", "q_heads", "kv_heads", "head_dim", "width"):
            size = getattr(self, name)
            if type(size) is not int or size < 1:
                raise LocretError(f"{name} is {size!r}: retaining heads need a whole number of at least 1")
        if self.activation not in ACT2FN:
            raise LocretError(f"activation is {self.activation!r}: transformers has {', '.join(sorted(ACT2FN))}")

    @property
    def shapes(self) -> Shapes:
        """The backbone's attention sizes."""
        return Shapes(self.layers, self.q_heads, self.kv_heads, self.head_dim)

    @property
    def head_tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights of one layer's head, by their names in it."""
        return {"fc1": (self.width, self.shapes.features), "fc2": (self.kv_heads, self.width)}

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, by their names in a state dict of `RetainingHeads`."""
        return {
            f"layers.{layer}.{name}.weight": shape
            for layer in range(self.layers)
            for name, shape in self.head_tensors.items()
        }

    @property
    def parameters(self) -> int:
        """How many weights all layers have together."""
        return self.layers * sum(map(math.prod, self.head_tensors.values()))
