"""InfiniteBench's synthetic tasks made anew, in the original format and at any length.

A generator's `units` are its lines of noise, pairs, numbers or functions; by default as many as the original has (100K
tokens and more). Every record draws from its own random numbers, so the same seed makes the same file.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.infinitebench import TASKS
from locret.eval.benchmarks.infinitebench_code import code_run
from locret.eval.benchmarks.jsonl import Record
from locret.registry import Registry

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n"
PLACES = 59  # where a needle may be, evenly from the first line to behind the last
KEY_DIGITS = 5
LOWEST = range(20)  # where the smallest number of a list may be
HIGHEST = range(79, 100)  # where the largest may be; the other end is that of both ranges
DIFFERENT = 3  # numbers of a list at least, for there is a third largest
RANKS = ("largest", "second largest", "third largest", "smallest", "second smallest", "third smallest", "median")

Draw = tuple[str, str, Any]  # context, input, answer


@dataclass(frozen=True, slots=True)
class Slot:
    """Which record of a file is to be made: how far into it, from 0 up to 1, and what it draws from."""

    units: int
    depth: float
    rng: random.Random

    def step(self, steps: int) -> int:
        """One of so many steps that the file's records climb evenly."""
        return int(self.depth * steps + 1e-9)


@dataclass(frozen=True, slots=True)
class Generator:
    """A synthetic task.

    Attributes:
        units: how long the original's records are.
        samples: how many records the original has.
        least: fewest units that make sense.
        draw: makes a record.
    """

    units: int
    samples: int
    least: int
    draw: Callable[[Slot], Draw]


def passkey(slot: Slot) -> Draw:
    """Five digits in noise."""
    key = _digits(slot.rng, KEY_DIGITS)
    return _hidden(slot, f"The pass key is {key}. Remember it. {key} is the pass key.\n"), "What is the pass key?", key


def number_string(slot: Slot) -> Draw:
    """Ten digits in noise; half of them repeat their neighbour, which is hard to copy."""
    digits = list(_digits(slot.rng, KEY_DIGITS))
    for _ in range(KEY_DIGITS):
        place = slot.rng.randrange(len(digits))
        digits.insert(place, digits[place])
    key = "".join(digits)
    needle = f"The sequence of digits is {key}. Remember it. {key} is the sequence of digits.\n"
    return _hidden(slot, needle), "What is the sequence of digits?", key


def kv_retrieval(slot: Slot) -> Draw:
    """The value of one of many keys, all of them UUIDs."""
    pairs = [(_uuid(slot.rng), _uuid(slot.rng)) for _ in range(slot.units)]
    key, value = pairs[slot.step(slot.units)]
    listed = ", ".join(f'"{one}": "{other}"' for one, other in pairs)
    return f"JSON data:\n{{{listed}}}", f'\nKey: "{key}"\nThe value associated with the specified key is: ', value


def math_find(slot: Slot) -> Draw:
    """An extreme or the median of a list of numbers; second and third are among different values."""
    rank = RANKS[slot.step(len(RANKS))]
    lowest, highest = LOWEST[0], HIGHEST[-1]
    if rank.endswith("largest") or (rank == "median" and slot.rng.random() < 0.5):
        highest = slot.rng.choice(HIGHEST)
    else:
        lowest = slot.rng.choice(LOWEST)
    numbers: list[int] = []
    while len(set(numbers)) < DIFFERENT:
        numbers = slot.rng.choices(range(lowest, highest + 1), k=slot.units)
    asked = f"You should answer with only one number, no other words. The {rank} number of the list is: "
    return str(numbers), asked, sought_number(rank, numbers)


def sought_number(rank: str, numbers: list[int]) -> int | float:
    """The number of a list that one of `RANKS` names; the median of an even number of them lies between two."""
    ordered = sorted(numbers)
    if rank == "median":
        middle = len(ordered) // 2
        return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    values = sorted(set(numbers), reverse=rank.endswith("largest"))
    return values[RANKS.index(rank) % DIFFERENT]


_generators: Registry[Generator] = Registry("InfiniteBench generator")
for _name, _generator in {
    "passkey": Generator(5220, 590, 0, passkey),
    "number_string": Generator(5220, 590, 0, number_string),
    "kv_retrieval": Generator(2500, 500, 1, kv_retrieval),
    "math_find": Generator(60000, 350, DIFFERENT, math_find),
    "code_run": Generator(550, 400, 10, lambda slot: code_run(slot.rng, slot.units, slot.depth)),
}.items():
    _generators.register(_name)(_generator)


def list_generators() -> list[str]:
    """Names of the tasks that can be made anew."""
    return _generators.names()


def generate(
    name: str, samples: int | None = None, units: int | None = None, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Records of a synthetic task, in the original format (`id, context, input, answer, options`).

    Args:
        name: one of `list_generators`.
        samples: how many, as many as the original has by default; what a record asks for moves evenly through them.
        units: how long, as long as the original by default; see `units_for`.
        seed: of everything that is drawn.

    Raises:
        LocretError: unknown task, no samples, or too few units.
    """
    generator = _generators.get(name)
    samples = generator.samples if samples is None else samples
    units = generator.units if units is None else units
    if samples < 1:
        raise LocretError(f"samples is {samples}: give at least 1")
    if units < generator.least:
        raise LocretError(f"units of {name} is {units}: give at least {generator.least}")
    return (_record(name, index, Slot(units, index / samples, _rng(name, seed, index))) for index in range(samples))


def units_for(name: str, tokens: int, count: Callable[[str], int], seed: int = 0) -> int:
    """The most units with which a task's first prompt has at most so many tokens.

    Args:
        name: one of `list_generators`.
        tokens: length of the prompt.
        count: tokens of a text.
        seed: of the record that is measured.

    Raises:
        LocretError: unknown task, or even the shortest prompt is longer.
    """
    fits = _generators.get(name).least - 1
    [task] = (task for task in TASKS if task.name == name)

    def length(units: int) -> int:
        [record] = generate(name, samples=1, units=units, seed=seed)
        return count(task.example(0, Record(name, record)).prompt)

    step = 1
    while length(fits + step) <= tokens:  # doubling finds a range, halving the place in it
        fits, step = fits + step, 2 * step
    while step > 1:
        step //= 2
        fits += step * (length(fits + step) <= tokens)
    if fits < _generators.get(name).least:
        raise LocretError(f"{tokens} tokens are too few for {name}: its shortest prompt has {length(fits + 1)}")
    return fits


def _record(name: str, index: int, slot: Slot) -> dict[str, Any]:
    context, asked, answer = _generators.get(name).draw(slot)
    return {"id": index, "context": context, "input": asked, "answer": [answer], "options": []}


def _rng(name: str, seed: int, index: int) -> random.Random:
    return random.Random(f"infinitebench {name} {seed} {index}")


def _hidden(slot: Slot, needle: str) -> str:
    place = slot.units * slot.step(PLACES) // (PLACES - 1)
    return NOISE * place + needle + NOISE * (slot.units - place)


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
