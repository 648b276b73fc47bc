"""Where examples come from: original files, RULER's generators, or InfiniteBench's."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.base import BenchmarkTask, Example
from locret.eval.benchmarks.infinitebench import TASKS
from locret.eval.benchmarks.infinitebench_generate import generate, units_for
from locret.eval.benchmarks.jsonl import Damaged, Record, stop
from locret.eval.haystack import plain_ids
from locret.eval.ruler import Recipe, Sources, get_ruler_task, records

Documents = tuple[tuple[Example, ...], ...]  # the examples of each document


def from_file(task: BenchmarkTask, path: Path, damaged: Damaged = stop) -> Documents:
    """All examples of an original file, those of one document together; `damaged` is told of lines that are none.

    Raises:
        LocretError: it cannot be read, or holds no example of the task.
    """
    grouped: dict[tuple[str, str], list[Example]] = {}
    for example in _named_apart(task.load(path, damaged)):
        grouped.setdefault((example.before, example.document), []).append(example)
    if not grouped:
        raise LocretError(f"{path} holds no example of {task.benchmark}/{task.name}: give another file")
    return tuple(map(tuple, grouped.values()))


def drawn(documents: Documents, samples: int, seed: int) -> Documents:
    """Documents with so many questions in all, drawn at random; in the file's order, and the one cut short last."""
    if sum(map(len, documents)) <= samples:
        return documents
    order = random.Random(f"benchmark documents {seed}").sample(range(len(documents)), len(documents))
    taken: list[int] = []
    left = samples
    while len(documents[order[len(taken)]]) <= left:
        taken.append(order[len(taken)])
        left -= len(documents[taken[-1]])
    whole = tuple(documents[number] for number in sorted(taken))
    return (*whole, documents[order[len(taken)]][:left]) if left else whole


def from_ruler(name: str, tokenizer: Any, length: int, samples: int, seed: int, sources: Sources) -> Documents:
    """RULER's samples: a prompt and the room for its answer fill the length.

    Raises:
        LocretError: the length is too short for the task, or a source is missing or unusable.
    """
    task, recipe = get_ruler_task(name), Recipe(name, length, samples, seed, sources)
    made = enumerate(records(recipe, tokenizer))
    return tuple((task.example(index, Record(f"{name} {index}", record)),) for index, record in made)


def from_generator(name: str, tokenizer: Any, length: int, samples: int, seed: int) -> Documents:
    """InfiniteBench's synthetic records: the longest prompt has at most `length` tokens.

    Raises:
        LocretError: even the shortest prompt is longer.
    """
    [task] = (task for task in TASKS if task.name == name)

    def count(text: str) -> int:
        return len(plain_ids(tokenizer, text))

    units = units_for(name, length, count, seed)
    while True:
        made = [task.example(i, Record(name, record)) for i, record in enumerate(generate(name, samples, units, seed))]
        longest = max(count(example.prompt) for example in made)
        if longest <= length:
            return tuple((example,) for example in made)
        units = min(units - 1, units * length // longest)  # the first record was measured, another is longer


def _named_apart(examples: Iterable[Example]) -> Iterable[Example]:
    """The examples with names of their own, where a file names several alike."""
    seen: Counter[str] = Counter()
    for example in examples:
        seen[example.uid] += 1
        yield example if seen[example.uid] == 1 else replace(example, uid=f"{example.uid}#{seen[example.uid]}")
