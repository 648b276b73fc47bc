"""A fingerprint of a backbone, so that retaining heads are not put on another model by mistake.

It is a few hundred weights, not a hash: the same weights in another precision or in fewer bits must be known again.
What tells them apart is how far they are from each other, where 0 is equal and 1 is what unrelated weights come to:

    mean over layers of |a - b|^2 / (|a|^2 + |b|^2)

A relative error of e in every weight comes to e^2 / 2: 1e-6 in bfloat16, 2e-5 in 8 bits, up to 0.006 in 4 bits. Other
weights of the same shape are at 0.7 to 1.1 (docs/heads.md has the measurements).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from locret.models.families import attention_modules, family_of, text_config
from locret.models.placement import compute_dtype, device_of, is_plain

MAX_LAYERS = 16
ROUNDING = 1e-5  # some times the distance of a copy in bfloat16, half that of one in 8 bits
NEAR = 0.02  # some times the distance of a copy in 4 bits
FAR = 0.06  # ten times the distance of a copy in 4 bits, and a twelfth or less of that of other weights
GOLDEN = (math.sqrt(5) - 1) / 2
PROBE = 4.0  # large beside biases, and below 6, where LLM.int8 treats an input as an outlier


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which weights of a layer are looked at.

    Attributes:
        samples: how many.
        digits: how many of each weight's digits are kept.
        places: rows and columns of the samples in a weight [rows, columns].
    """

    samples: int
    digits: int
    places: Callable[[int, int], tuple[list[int], list[int]]]

    def rounded(self, samples: Tensor) -> tuple[float, ...]:
        """As they are written to files."""
        return tuple(float(f"{x:.{self.digits}g}") for x in samples.float().tolist())


def _scattered(rows: int, columns: int) -> tuple[list[int], list[int]]:
    """Evenly over the rows, and all over the columns."""
    count = SCATTERED.samples
    down = [(2 * index + 1) * rows // (2 * count) for index in range(count)]
    return down, [int(columns * (index * GOLDEN % 1)) for index in range(count)]


def _in_steps(rows: int, columns: int) -> tuple[list[int], list[int]]:
    """In four equal steps through the flat weight, so mostly in its first column."""
    step = max(1, rows * columns // IN_STEPS.samples)
    places = [divmod(index * step, columns) for index in range(IN_STEPS.samples)]
    return [row for row, _ in places], [column for _, column in places]


SCATTERED = Sampling(samples=32, digits=4, places=_scattered)
IN_STEPS = Sampling(samples=4, digits=6, places=_in_steps)  # what files of format 1 hold


def fingerprint_of(model: nn.Module) -> tuple[float, ...]:
    """Samples of the last attention projection of up to 16 layers; empty for weights that are not loaded.

    Packed weights, and those of modules that do more than multiply, are sampled through what the module computes.
    """
    return _of_layers(model, sampled_layers(len(attention_modules(model))), SCATTERED)


def old_fingerprint_of(model: nn.Module) -> tuple[float, ...]:
    """The fingerprint of format 1: of the first 16 layers. Rows of results name their model by it, too."""
    return _of_layers(model, range(min(len(attention_modules(model)), MAX_LAYERS)), IN_STEPS)


def fingerprint_of_weights(weights: Iterable[Any]) -> tuple[float, ...]:
    """The same as `fingerprint_of` for a model that is not loaded; empty if a weight is packed.

    Args:
        weights: the weight of the family's last attention projection, for each of `sampled_layers`.
    """
    return _joined(
        _of_weight(weight, SCATTERED) if is_plain(weight) and weight.dim() == 2 else () for weight in weights
    )


def sampled_layers(layers: int) -> list[int]:
    """Which of so many layers are sampled: up to 16, from the first on, evenly over the depth."""
    count = min(layers, MAX_LAYERS)
    return [index * layers // count for index in range(count)]


def distance(one: tuple[float, ...], other: tuple[float, ...], sampling: Sampling = SCATTERED) -> float:
    """How far two fingerprints are from each other: 0 is equal, 1 unrelated; infinite if their lengths differ."""
    if len(one) != len(other):
        return math.inf
    layers = [slice(start, start + sampling.samples) for start in range(0, len(one), sampling.samples)]
    return sum(_apart(one[layer], other[layer]) for layer in layers) / max(1, len(layers))


def distance_to(fingerprint: tuple[float, ...], model: nn.Module) -> float | None:
    """How far `model` is from the one that `fingerprint` was taken of; None where either is unknown.

    A fingerprint of format 1 is known by its length, and compared with the samples that it was made of.
    """
    if not fingerprint:
        return None
    layers = min(len(attention_modules(model)), MAX_LAYERS)
    old = len(fingerprint) == IN_STEPS.samples * layers
    theirs = old_fingerprint_of(model) if old else fingerprint_of(model)
    return distance(fingerprint, theirs, IN_STEPS if old else SCATTERED) if theirs else None


def same_backbone(fingerprint: tuple[float, ...], model: Any) -> bool:
    """Whether `model` may be the one `fingerprint` was taken of; unknown fingerprints are given the benefit.

    Weights that are near, but further off than their bits explain, are taken with a warning: nothing here can tell a
    model that was fine-tuned from one that was packed and unpacked before it was saved.
    """
    apart = distance_to(fingerprint, model)
    if apart is None:
        return True
    if (NEAR if _was_packed(model.config) else ROUNDING) < apart <= FAR:
        warnings.warn(
            f"the weights of this {model.config.model_type} model are near those of the training, but not the same "
            f"(distance {apart:.2g}; copies in 4 bits: 0.005, other models: 1): fine if they were quantised once; if "
            "they were fine-tuned, expect worse choices, or train heads for them",
            stacklevel=3,
        )
    return apart <= FAR


def _was_packed(config: Any) -> bool:
    """Whether weights are, or have been, in few bits: quantised now, or read from a GGUF file (`models.loading`)."""
    return getattr(config, "quantization_config", None) is not None or getattr(config, "dequantised", False)


def _of_layers(model: nn.Module, layers: Iterable[int], sampling: Sampling) -> tuple[float, ...]:
    """Samples of v, or of q, k and v in one, layer by layer."""
    name, modules = family_of(model.config).projections[-1], attention_modules(model)
    config = text_config(model.config)
    return _joined(_of_module(modules[layer].get_submodule(name), config, sampling) for layer in layers)


def _joined(layers: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """All layers' samples, or none if one of them has none or is not finite: NaN would differ from itself."""
    samples: list[float] = []
    for layer in layers:
        if not layer or not all(map(math.isfinite, layer)):
            return ()
        samples += layer
    return tuple(samples)


def _of_module(module: nn.Module, config: Any, sampling: Sampling) -> tuple[float, ...]:
    with align_module_device(module):
        weight: Any = getattr(module, "weight", None)
        if type(module) is nn.Linear and is_plain(weight):
            return _of_weight(weight, sampling)
    return () if getattr(weight, "is_meta", False) else _of_outputs(module, config, sampling)


def _of_weight(weight: Tensor, sampling: Sampling) -> tuple[float, ...]:
    """Samples of a plain weight [out, in]."""
    rows, columns = sampling.places(*weight.shape)
    return sampling.rounded(weight.detach()[rows, columns])


@torch.no_grad()
def _of_outputs(module: nn.Module, config: Any, sampling: Sampling) -> tuple[float, ...]:
    """The same samples through the module itself, whatever its weights are packed in: an input picks a column."""
    device, dtype, count = device_of(module), compute_dtype(module, config), sampling.samples
    width = module.forward(torch.zeros(1, 1, config.hidden_size, device=device, dtype=dtype)).shape[-1]
    rows, columns = sampling.places(width, config.hidden_size)
    inputs = torch.zeros(1, count + 1, config.hidden_size, device=device, dtype=dtype)
    inputs[0, range(count), columns] = PROBE  # the last stays zero, and shows the bias
    outputs = module.forward(inputs)[0].float()  # past the hooks, which may look for q, k and v of a prompt
    return sampling.rounded((outputs[range(count), rows] - outputs[count, rows]) / PROBE)


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """|a - b|^2 / (|a|^2 + |b|^2); two of nothing but zeros are equal."""
    norms = math.hypot(*one) ** 2 + math.hypot(*other) ** 2
    return math.dist(one, other) ** 2 / norms if norms else 0.0
