"""Codecs of quantised storages: how the keys or values of a unit become fewer bytes and come back.

Every unit is coded by itself in every KV head, so that units can be evicted without decoding any: codes and scales have
the unit as a dimension and are gathered like the keys themselves. This is why transformers' quantised caches (quanto,
HQQ) are not wrapped here: they share scales among 64 neighbours in the sequence, so each eviction would have to decode,
gather and code again, at a growing error, and per-head evictions would mix neighbours of different ranges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

FP8 = torch.float8_e4m3fn
LARGEST_FP8 = torch.finfo(FP8).max  # 448: a cast of anything larger gives NaN
LARGEST_FP16 = torch.finfo(torch.float16).max


class Codec(Protocol):
    """A pair of functions; each unit of each head is coded alone."""

    def encode(self, dense: Tensor) -> tuple[Tensor, ...]:
        """[batch, kv_heads, units, head_dim], any float dtype, to tensors [batch, kv_heads, units, *]."""
        ...

    def decode(self, coded: tuple[Tensor, ...], head_dim: int) -> Tensor:
        """What `encode` made of a tensor, back in fp32: [batch, kv_heads, units, head_dim]."""
        ...


@dataclass(frozen=True)
class Affine:
    """Asymmetric min/max quantisation: code = round((x - low) / (high - low) * (2^bits - 1)).

    The channels of a unit are cut into groups with a range each, so that a channel with outliers, of which keys have
    some (KIVI, arXiv 2402.02750), spoils its group only.

    Low and high are kept in fp16 whatever the model's dtype: bfloat16 would round them by up to half a step of 8 bits.
    Codes are relative to the rounded range, so that its rounding costs nothing but the clipped ends. Both ends of the
    range are kept, not its width, which for values near 0 fp16 could not hold. Beyond 65504 values saturate.

    Attributes:
        bits: 2, 4 or 8 bits a channel; 8 / bits codes share a byte.
        group: channels that share a range; None for the whole head. Head sizes that it does not divide get the fewest
            equal groups that are no larger.
    """

    bits: int
    group: int | None = None

    def encode(self, dense: Tensor) -> tuple[Tensor, ...]:
        """Packed codes [.., bytes] uint8, low and high [.., groups] fp16."""
        groups = self._groups(dense.shape[-1])
        grouped = dense.float().unflatten(-1, (groups, -1))  # [batch, kv_heads, units, groups, channels]
        low = _half(grouped.amin(dim=-1))
        high = _half(grouped.amax(dim=-1))
        step = self._step(low, high).clamp(min=torch.finfo(torch.float32).tiny)  # equal channels: any code will do
        codes = ((grouped - low.float()[..., None]) / step).round().clamp(0, 2**self.bits - 1)
        return pack_bits(codes.flatten(-2).to(torch.uint8), self.bits), low, high

    def decode(self, coded: tuple[Tensor, ...], head_dim: int) -> Tensor:
        """Low plus code times step."""
        packed, low, high = coded
        codes = unpack_bits(packed, self.bits)[..., :head_dim].float().unflatten(-1, (low.shape[-1], -1))
        return (low.float()[..., None] + codes * self._step(low, high)).flatten(-2)

    def _step(self, low: Tensor, high: Tensor) -> Tensor:
        return ((high.float() - low.float()) / (2**self.bits - 1))[..., None]

    def _groups(self, head_dim: int) -> int:
        fewest = -(-head_dim // (self.group or head_dim))
        return next(count for count in range(fewest, head_dim + 1) if head_dim % count == 0)


@dataclass(frozen=True)
class Float8:
    """8-bit floats (e4m3) times one scale per unit and head; kept as bytes, as CPUs cannot gather the 8-bit dtype."""

    def encode(self, dense: Tensor) -> tuple[Tensor, ...]:
        """Bytes [.., head_dim] uint8, and the largest magnitude [.., 1] fp16, which becomes 448."""
        peak = _half(dense.float().abs().amax(dim=-1, keepdim=True))
        scaled = dense.float() * (LARGEST_FP8 / peak.float().clamp(min=torch.finfo(torch.float16).tiny))
        return scaled.clamp(-LARGEST_FP8, LARGEST_FP8).to(FP8).view(torch.uint8), peak

    def decode(self, coded: tuple[Tensor, ...], head_dim: int) -> Tensor:
        """The floats times their scale."""
        codes, peak = coded
        scale = peak.float().clamp(min=torch.finfo(torch.float16).tiny) / LARGEST_FP8
        return codes.view(FP8).float() * scale


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes [.., n] uint8 below 2^bits to bytes [.., ceil(n * bits / 8)] uint8, the first code in the lowest bits."""
    share = 8 // bits
    codes = pad(codes, (0, -codes.shape[-1] % share)).unflatten(-1, (-1, share))
    packed = codes[..., 0].clone()
    for place in range(1, share):
        packed |= codes[..., place] << (place * bits)
    return packed


def unpack_bits(packed: Tensor, bits: int) -> Tensor:
    """Bytes [.., m] uint8 to codes [.., m * 8 / bits] uint8; the last ones may be padding."""
    places = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> places) & (2**bits - 1)).flatten(-2)


def _half(values: Tensor) -> Tensor:
    return values.clamp(-LARGEST_FP16, LARGEST_FP16).half()
