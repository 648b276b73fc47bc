"""What the generator of a task is: it prepares itself for a tokenizer and a length, then drafts samples."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from locret.eval.ruler.sources import Sources
from locret.eval.ruler.wording import Prompt, Wording


@dataclass(frozen=True, slots=True)
class Setup:
    """What samples are made for.

    Attributes:
        task: the task's name, for messages.
        count: tokens of a text.
        length: tokens wanted of a prompt with its answer.
        samples: how many will be drafted.
        sources: texts that are not made here.
    """

    task: str
    count: Callable[[str], int]
    length: int
    samples: int
    sources: Sources


class Draft(Protocol):
    """A sample whose facts are drawn and whose haystack has no size yet."""

    @property
    def least(self) -> int:
        """Units of haystack at least."""
        ...

    @property
    def most(self) -> int:
        """Units of haystack at most."""
        ...

    def prompt(self, units: int) -> Prompt:
        """The sample with so many units of haystack."""
        ...

    def is_sound(self, prompt: Prompt) -> bool:
        """Whether the answers stand where they were put and nowhere else."""
        ...


Drafter = Callable[[int, random.Random], Draft]


class Generator(Protocol):
    """Makes the samples of one task; the fields of its dataclass are the task's parameters."""

    @property
    def wording(self) -> Wording:
        """The task's fixed words."""
        ...

    def prepare(self, setup: Setup) -> Drafter:
        """Whatever all samples share, read or made once: what drafts the sample of an index.

        Raises:
            LocretError: a text that is needed is missing or unusable.
        """
        ...
