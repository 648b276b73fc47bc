"""How retaining heads are trained: the paper's hyper-parameters, all in one frozen value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from locret.errors import LocretError
from locret.train.labels import get_objective

PAPER_WARMUP = 2000
MOST_SAMPLES = 1 << 16  # all of a step are held at once
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Hyper-parameters of a run; the defaults are the paper's (arXiv 2410.01805).

    Attributes:
        steps: optimiser steps.
        lr: peak learning rate of AdamW, reached at the end of the warm-up.
        betas: AdamW's decay rates.
        weight_decay: AdamW's, decoupled.
        warmup: steps of linear warm-up, followed by linear decay to 0; None means 2000, or two
            thirds of `steps` where `steps` is not above 2000.
        batch_size: samples a step, over all processes together.
        clip: gradients are clipped to +-clip, value by value.
        max_length: tokens of a sample, answers included; the middle of a longer one is cut out.
        smoothness: weight of the smoothness term.
        width: hidden width d_R of fresh heads.
        objective: name of the label, see `locret.train.labels`.
        seed: of the heads' initialisation and of the order of the samples.
        dtype: what backbone and heads compute in; the heads' weights are always float32.
    """

    steps: int = 3000
    lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    warmup: int | None = None
    batch_size: int = 1
    clip: float = 0.5
    max_length: int = 10240
    smoothness: float = 0.0025
    width: int = 1024
    objective: str = "logits"
    seed: int = 42
    dtype: str = "float32"

    def __post_init__(self) -> None:
        get_objective(self.objective)
        for name, least in (("steps", 1), ("batch_size", 1), ("width", 1), ("max_length", 8)):
            _at_least(name, getattr(self, name), least)
        if self.batch_size > MOST_SAMPLES:
            raise LocretError(f"batch_size is {self.batch_size}: give at most {MOST_SAMPLES} samples a step")
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise LocretError(f"{name} is {getattr(self, name)}: give a finite number above 0")
        for name in ("smoothness", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise LocretError(f"{name} is {getattr(self, name)}: give a finite number of at least 0")
        _at_least("seed", self.seed, 0)
        if self.warmup is not None and not 0 <= self.warmup < self.steps:
            raise LocretError(
                f"warmup is {self.warmup}: give 0 to {self.steps - 1}, less than the "
                f"{self.steps} steps, or leave it out"
            )
        if self.dtype not in DTYPES:
            raise LocretError(f"dtype is {self.dtype!r}: heads are trained in {' or '.join(DTYPES)}")

    @property
    def warmup_steps(self) -> int:
        """Steps of warm-up: `warmup`, or the paper's 2000, or two thirds of a shorter run."""
        if self.warmup is not None:
            return self.warmup
        return PAPER_WARMUP if self.steps > PAPER_WARMUP else self.steps * 2 // 3

    @property
    def notices(self) -> list[str]:
        """What the user should be told about values that were not taken from the paper."""
        if self.warmup is None and self.warmup_steps != PAPER_WARMUP:
            return [
                f"the paper's warm-up of {PAPER_WARMUP} steps does not fit into {self.steps}: "
                f"using {self.warmup_steps}, two thirds (--warmup sets it)"
            ]
        return []

    def learning_rate(self, step: int) -> float:
        """The rate of `step` (0 first): linear up to `lr` in the warm-up, linear down to 0."""
        warmup = self.warmup_steps
        if step < warmup:
            return self.lr * (step + 1) / warmup
        return self.lr * (self.steps - step) / (self.steps - warmup)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON knows them, the warm-up resolved."""
        return {**asdict(self), "betas": list(self.betas), "warmup": self.warmup_steps}


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise LocretError(f"{name} is {value}: give at least {least}")
