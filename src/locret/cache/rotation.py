"""Re-rotation of cached keys: moving a key by a position delta without knowing the key before rotary embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Rotary embedding's rotation, in transformers' layout (the two halves of the head are paired).

    Rotations add up, so a key rotated for position p and rotated again by d is the key of position p + d. Attention
    scaling, which some RoPE variants multiply into cos and sin, is in the key already and is not applied again.

    Attributes:
        inverse_frequencies: [rotary_dim / 2], fp32; empty for a layer without rotary embedding.
    """

    inverse_frequencies: Tensor

    def rotate(self, keys: Tensor, delta: Tensor) -> Tensor:
        """Move keys by `delta` positions.

        Args:
            keys: [batch, kv_heads, units, head_dim].
            delta: [batch, kv_heads, units], whole numbers.

        Returns:
            The moved keys, in the shape and dtype of `keys`; dimensions past the rotary ones are untouched.
        """
        frequencies = self.inverse_frequencies.to(keys.device)
        angles = delta[..., None].float() * frequencies  # [batch, kv_heads, units, rotary_dim / 2]
        cos, sin = angles.cos(), angles.sin()
        half = frequencies.shape[0]
        first, second, rest = keys.float().split([half, half, keys.shape[-1] - 2 * half], dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1).to(keys.dtype)


@dataclass(frozen=True)
class Move:
    """A change of stored keys: each is moved by a number of positions of its own.

    Called with keys it gives the moved ones; as moves add up, a storage may also note it and rotate later.

    Attributes:
        rotation: of the keys' layer.
        delta: [batch, kv_heads, units], whole numbers.
    """

    rotation: Rotation
    delta: Tensor

    def __call__(self, keys: Tensor) -> Tensor:
        """The keys [batch, kv_heads, units, head_dim], moved."""
        return self.rotation.rotate(keys, self.delta)
