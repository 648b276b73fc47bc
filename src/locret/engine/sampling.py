"""How the next token is chosen: greedy, or sampled through transformers' own logits processors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from locret.errors import LocretError


@dataclass(frozen=True, slots=True)
class Sampling:
    """The settings of a choice.

    Attributes:
        temperature: 0 is greedy.
        top_k, top_p: keep the k likeliest tokens, or the likeliest ones with mass p; None keeps all.
        seed: of a generator of its own; None uses torch's global one, as `model.generate` does.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise LocretError(f"temperature is {self.temperature}: give 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise LocretError(f"top_k is {self.top_k}: give 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise LocretError(f"top_p is {self.top_p}: give a number above 0, at most 1")

    def processors(self) -> LogitsProcessorList:
        """Processors of transformers, in the order `generate` applies them."""
        chosen = LogitsProcessorList()
        if self.temperature not in (0.0, 1.0):
            chosen.append(TemperatureLogitsWarper(self.temperature))
        if self.temperature and self.top_k is not None:
            chosen.append(TopKLogitsWarper(self.top_k))
        if self.temperature and self.top_p is not None:
            chosen.append(TopPLogitsWarper(self.top_p))
        return chosen

    def generator(self, device: torch.device) -> torch.Generator | None:
        """A seeded generator on `device`, or None for torch's own."""
        return None if self.seed is None else torch.Generator(device).manual_seed(self.seed)

    def choose(
        self, logits: Tensor, seen: Tensor, processors: LogitsProcessorList, generator: torch.Generator | None
    ) -> int:
        """The next token.

        Args:
            logits: [vocab], fp32.
            seen: [1, tokens], what came before (for processors that look at it).
            processors: applied before choosing.
            generator: source of chance.
        """
        scores = processors(seen, logits[None])[0]
        if self.temperature == 0:
            return int(scores.argmax())
        return int(torch.multinomial(scores.softmax(dim=-1), 1, generator=generator))
