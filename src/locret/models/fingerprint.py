"""A fingerprint of a backbone, so that retaining heads are not put on another model by mistake.

It is a handful of weights, not a hash: loading in another precision must not change the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

from torch import nn

from locret.models.families import attention_modules, family_of
from locret.models.placement import is_plain, weights_of

SAMPLES_PER_LAYER = 4
MAX_LAYERS = 16
TOLERANCE = 0.02  # relative distance; bf16 rounding moves a weight by 0.4 % at most


def fingerprint_of(model: nn.Module) -> tuple[float, ...]:
    """Samples of the last attention projection of up to 16 layers; empty for quantised weights."""
    name = family_of(model.config).projections[-1]
    return fingerprint_of_weights(weights_of(module.get_submodule(name) for module in attention_modules(model)))


def fingerprint_of_weights(weights: Iterable[Any]) -> tuple[float, ...]:
    """The same of the weights themselves, for a model that is not loaded.

    Args:
        weights: the weight of the family's last attention projection, layer by layer.
    """
    samples: list[float] = []
    for weight in islice(weights, MAX_LAYERS):
        if not is_plain(weight) or weight.dim() != 2:
            return ()
        flat = weight.detach().flatten()
        step = max(1, flat.numel() // SAMPLES_PER_LAYER)
        samples += [float(f"{x:.6g}") for x in flat[::step][:SAMPLES_PER_LAYER].float().tolist()]
    return tuple(samples) if all(map(math.isfinite, samples)) else ()  # NaN would differ from itself


def same_backbone(fingerprint: tuple[float, ...], model: nn.Module) -> bool:
    """Whether `model` may be the one `fingerprint` was taken of; unknown fingerprints are given the benefit."""
    theirs = fingerprint_of(model) if fingerprint else ()
    if not fingerprint or not theirs:
        return True
    if len(theirs) != len(fingerprint):
        return False
    return math.dist(fingerprint, theirs) <= TOLERANCE * math.hypot(*fingerprint)
