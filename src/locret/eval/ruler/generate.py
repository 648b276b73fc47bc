"""Making the files of a task: samples of a given length in tokens, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from locret.cache.budget import LONGEST
from locret.errors import LocretError
from locret.eval.haystack import text_ids
from locret.eval.ruler.contract import Draft, Drafter, Setup
from locret.eval.ruler.sizing import fit
from locret.eval.ruler.sources import Sources
from locret.eval.ruler.tasks import RulerTask, get_ruler_task
from locret.files import write_whole

TRIES = 100  # a haystack that holds drawn answers by chance is drawn again, so often at most


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a file is made by; with the tokenizer and the sources it fixes every byte.

    Attributes:
        task: one of RULER's 13.
        length: tokens wanted of a prompt with the room for its answer; special tokens are not counted, as in RULER.
        samples: how many.
        seed: another one draws other samples.
        sources: texts that are not made here.
    """

    task: str
    length: int = 4096
    samples: int = 500
    seed: int = 42
    sources: Sources = field(default_factory=Sources)

    def __post_init__(self) -> None:
        get_ruler_task(self.task)
        for what in ("length", "samples"):
            if not 1 <= getattr(self, what) <= LONGEST:
                raise LocretError(f"{what} is {getattr(self, what)}: give at least 1, at most {LONGEST}")


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: how many samples, and the tokens of the shortest and the longest."""

    samples: int
    shortest: int
    longest: int


def records(recipe: Recipe, tokenizer: Any) -> Iterator[dict[str, Any]]:
    """The samples of a recipe: `index, input, outputs, length, answer_prefix`.

    `length` is the tokens of `input + answer_prefix` and the room for the answer: never above the recipe's, and with
    one more unit of haystack it would be.

    Raises:
        LocretError: the length is too short for the task's fixed parts, or a source is missing or unusable.
    """
    task = get_ruler_task(recipe.task)
    setup = Setup(
        task=task.name,
        count=lambda text: len(text_ids(tokenizer, text)),
        length=recipe.length,
        samples=recipe.samples,
        sources=recipe.sources,
    )
    drafter = task.generator.prepare(setup)
    units = 0
    for index in range(recipe.samples):
        record, units = _sample(recipe, task, setup, drafter, index, units)
        yield record


def write_records(
    path: Path, recipe: Recipe, tokenizer: Any, progress: Callable[[int, int], object] = lambda done, total: None
) -> Written:
    """Write the samples of a recipe as JSON lines, the whole file or nothing.

    Args:
        path: where to.
        recipe: what to make.
        tokenizer: counts the tokens.
        progress: told after each sample how many there are, and how many there will be.

    Raises:
        LocretError: as `records`, or the file cannot be written.
    """
    lengths: list[int] = []

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for record in records(recipe, tokenizer):
                file.write(json.dumps(record) + "\n")
                lengths.append(record["length"])
                progress(len(lengths), recipe.samples)

    write_whole(path, write)
    return Written(len(lengths), min(lengths), max(lengths))


def _sample(
    recipe: Recipe, task: RulerTask, setup: Setup, drafter: Drafter, index: int, guess: int
) -> tuple[dict[str, Any], int]:
    """A record, and its units of haystack; `guess` is what they may be."""
    room = recipe.length - task.max_new_tokens
    for attempt in range(TRIES):
        rng = random.Random(f"ruler/{task.name}/{recipe.length}/{recipe.seed}/{index}/{attempt}")
        draft = drafter(index, rng)
        tokens = _counter(draft, setup)
        units = fit(tokens, room, draft.least, draft.most, guess)
        if units is None:
            needed = tokens(draft.least) + task.max_new_tokens
            raise LocretError(
                f"length {recipe.length} is too short for {task.name}: sample {index} with the least haystack and "
                f"room for its answer has {needed} tokens: give a length above that"
            )
        prompt = draft.prompt(units)
        if draft.is_sound(prompt):
            record = {
                "index": index,
                "input": prompt.input,
                "outputs": list(prompt.outputs),
                "length": tokens(units) + task.max_new_tokens,
                "answer_prefix": prompt.answer_prefix,
            }
            return record, units
    raise LocretError(
        f"{task.name}: {TRIES} draws of sample {index} all had an answer in the haystack by chance: "
        "give another text as the essay"
    )


def _counter(draft: Draft, setup: Setup) -> Callable[[int], int]:
    """Tokens of the draft with so many units, each counted once."""
    return cache(lambda units: setup.count(draft.prompt(units).text))
