"""Samples: records as tensors, cut to length, and the order in which a run takes them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from locret.errors import LocretError
from locret.train.contents import Encoded
from locret.train.records import Record


@dataclass(frozen=True, slots=True)
class Sample:
    """One training text.

    Attributes:
        input_ids: int64 [tokens].
        answer: bool [tokens], true on the tokens of the answers.
        prompt_length: tokens before the first answer; these are the ones that get labels.
    """

    input_ids: Tensor
    answer: Tensor
    prompt_length: int

    @property
    def rows(self) -> Tensor:
        """Query rows of the labels, int64: the answers' tokens and the token before each answer."""
        predicts = self.answer.roll(-1)
        predicts[-1] = False
        return (self.answer | predicts).nonzero().squeeze(1)


@dataclass(frozen=True)
class SampleMaker:
    """Turns records into samples.

    Attributes:
        tokenizer: a transformers tokenizer; None if all records are tokens already.
        max_length: longest sample in tokens; of a longer one the middle of the context is cut out.
        vocabulary: number of token ids the model knows.
    """

    tokenizer: Any
    max_length: int
    vocabulary: int

    def __call__(self, record: Record) -> Sample:
        """The sample of a record.

        Raises:
            LocretError: nothing is left of the prompt or of the answers, or a token is unknown.
        """
        try:
            encoded = shorten(record.content.encode(self.tokenizer), self.max_length)
            return self._sample(encoded)
        except LocretError as error:
            raise LocretError(f"{record.place}: bad training record: {error}") from error

    def _sample(self, encoded: Encoded) -> Sample:
        if max(encoded.ids, default=0) >= self.vocabulary:
            raise LocretError(f"token {max(encoded.ids)} is unknown to the model, which has {self.vocabulary}")
        answer = torch.zeros(len(encoded.ids), dtype=torch.bool)
        for start, end in encoded.spans:
            answer[start:end] = True
        if not answer.any() or encoded.spans[0][0] < 1:
            raise LocretError(f"after cutting to {self.max_length} tokens there is no prompt or no answer left")
        return Sample(torch.tensor(encoded.ids), answer, int(answer.nonzero()[0]))


def shorten(encoded: Encoded, max_length: int) -> Encoded:
    """Cut to `max_length` tokens: out of the context's middle, as both its ends matter most.

    Questions and answers survive as long as they fit into what a context of half the length (or
    all of a shorter context) leaves them; beyond that the last ones are cut.
    """
    if len(encoded.ids) <= max_length:
        return encoded
    context, rest = encoded.ids[: encoded.context], encoded.ids[encoded.context :]
    rest = rest[: max_length - min(len(context), max_length // 2)]
    kept = max_length - len(rest)
    head = min(len(context), (kept + 1) // 2)
    tail = min(len(context) - head, kept - head)
    context = context[:head] + context[len(context) - tail :]
    removed = encoded.context - len(context)
    end = len(context) + len(rest)
    spans = [(start - removed, min(stop - removed, end)) for start, stop in encoded.spans]
    kept_spans = [(start, stop) for start, stop in spans if start < stop]
    return Encoded(context + rest, kept_spans, len(context))


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """Which samples each step takes: a function of nothing but these values and the step.

    The data are gone through in a new random order every epoch; a batch may lie across two.

    Attributes:
        size: number of records.
        batch_size: samples a step, over all processes.
        seed: of the permutations.
    """

    size: int
    batch_size: int
    seed: int

    def batch(self, step: int) -> list[int]:
        """Record indices of a step (0 first)."""
        numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [permutation(self.seed, number // self.size, self.size)[number % self.size] for number in numbers]

    def share(self, step: int, process: int, processes: int) -> list[int]:
        """The part of a step's batch that one process of several takes."""
        return self.batch(step)[process::processes]


@lru_cache(maxsize=2)
def permutation(seed: int, epoch: int, size: int) -> Sequence[int]:
    """The order of one epoch, the same on every machine."""
    order = list(range(size))
    random.Random(f"locret/{seed}/{epoch}").shuffle(order)
    return tuple(order)
