"""How the next token is chosen: greedy, or sampled through transformers' own logits processors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from locret.errors import LocretError
from locret.models.logits import check_logits, unless_no_number
from locret.values import check_whole, is_number

LARGEST_SEED = 2**64 - 1  # of torch's generators


@dataclass(frozen=True, slots=True)
class Sampling:
    """The settings of a choice.

    Attributes:
        temperature: 0 is greedy.
        top_k, top_p: keep the k likeliest tokens, or the likeliest ones with mass p; None keeps all. They are for a
            temperature above 0.
        seed: of a generator of its own, 0 to 2**64 - 1; None uses torch's global one, as `model.generate` does.

    Raises:
        LocretError: a value is out of range, or has no effect beside the others.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise LocretError(f"temperature is {self.temperature!r}: give 0 (greedy) or more")
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1)
        if self.top_p is not None and not (is_number(self.top_p) and 0 < self.top_p <= 1):
            raise LocretError(f"top_p is {self.top_p!r}: give a number above 0, at most 1")
        if self.seed is not None:
            check_whole("seed", self.seed, 0, LARGEST_SEED)
        if not self.temperature:
            self._refuse_without_effect()

    def processors(self) -> LogitsProcessorList:
        """Processors of transformers, in the order `generate` applies them."""
        chosen = LogitsProcessorList()
        if self.temperature not in (0.0, 1.0):
            chosen.append(TemperatureLogitsWarper(float(self.temperature)))
        if self.temperature and self.top_k is not None:
            chosen.append(TopKLogitsWarper(int(self.top_k)))
        if self.temperature and self.top_p is not None:
            chosen.append(TopPLogitsWarper(self.top_p))
        return chosen

    def _refuse_without_effect(self) -> None:
        for name in ("top_k", "top_p"):
            value = getattr(self, name)
            if value is not None:
                raise LocretError(
                    f"{name} is {value} and temperature is 0 (greedy), which takes the likeliest token whatever {name} "
                    f"is: give a temperature above 0 as well, or leave {name} out"
                )

    def generator(self, device: torch.device) -> torch.Generator | None:
        """A seeded generator on `device`, or None for torch's own."""
        return None if self.seed is None else torch.Generator(device).manual_seed(int(self.seed))

    def choose(
        self, logits: Tensor, seen: Tensor, processors: LogitsProcessorList, generator: torch.Generator | None
    ) -> int:
        """The next token. The device is waited for once.

        Args:
            logits: [vocab], fp32.
            seen: [1, tokens], what came before (for processors that look at it).
            processors: applied before choosing.
            generator: source of chance.

        Raises:
            LocretError: the logits are no numbers, or the processors leave no token.
        """
        scores = processors(seen, logits[None])[0]
        best, token = scores.max(dim=-1)
        if self.temperature:
            # Of NaN torch would draw nothing; whatever is drawn instead is not told.
            token = torch.multinomial(scores.softmax(dim=-1).nan_to_num(nan=1.0), 1, generator=generator)[0]
        chosen = int(unless_no_number(token, best))
        if chosen < 0:
            check_logits(logits)
            raise LocretError(
                f"logits processors leave no token to choose (their largest score is {float(best)}): leave one out"
            )
        return chosen
