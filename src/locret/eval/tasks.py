"""Tasks: what is hidden in a document, and when an answer about it is right.

A task is a row of the registry. Every template of `locret.eval.needles` is a task of its own, and so is their mix.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Protocol

from locret.eval.haystack import Context, Filler, build_context
from locret.eval.needles import MIX, Needle, Template, is_correct, templates
from locret.registry import Registry


class Task(Protocol):
    """Builds documents with questions, and judges answers."""

    @property
    def name(self) -> str:
        """What it is registered as."""
        ...

    @property
    def keys(self) -> int:
        """Questions a document, unless the user wants another number."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """Tokens of an answer at most."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer."""
        ...

    def build(self, tokenizer: Any, filler: Filler, length: int, keys: int, rng: random.Random, split: str) -> Context:
        """A document of `length` tokens with `keys` questions; `split` is "trained" or "heldout"."""
        ...

    def score(self, answer: str, needle: Needle) -> float:
        """How right the answer is: 0 to 1."""
        ...


@dataclass(frozen=True, slots=True)
class NeedleTask:
    """Facts of one kind, or of several kinds, hidden at random places of real text.

    Attributes:
        name: also the kind of needle, see `locret.eval.needles`.
        keys: needles a document.
        decoys: sentences a document that look like needles and are never asked for.
        max_new_tokens: tokens of an answer at most.
        stop: strings that end an answer.
    """

    name: str
    keys: int = 8
    decoys: int = 0
    max_new_tokens: int = 16
    stop: tuple[str, ...] = (".", "\n")

    def build(self, tokenizer: Any, filler: Filler, length: int, keys: int, rng: random.Random, split: str) -> Context:
        """A document of exactly `length` tokens; its keys come from `split`."""
        return build_context(tokenizer, filler, self.name, length, keys, rng, decoys=self.decoys, keys=split)

    def score(self, answer: str, needle: Needle) -> float:
        """1 for an answer that begins with the hidden value, else 0."""
        return float(is_correct(answer, needle))


_tasks: Registry[Task] = Registry("task")


def register_task(task: Task) -> Task:
    """Put a task into the registry under its name; a name that is taken is an error."""
    return _tasks.register(task.name)(task)


def get_task(name: str) -> Task:
    """The task called `name`; LocretError names the ones there are."""
    return _tasks.get(name)


def list_tasks() -> list[str]:
    """Names of all registered tasks."""
    return _tasks.names()


def _task_of(template: Template) -> NeedleTask:
    """A template whose needles have no key is hidden once, among decoys."""
    if template.key == "none":
        return NeedleTask(template.name, keys=1, decoys=16)
    return NeedleTask(template.name)


for _template in templates():
    register_task(_task_of(_template))
register_task(NeedleTask(MIX, keys=16))
