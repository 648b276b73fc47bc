"""The grid of an evaluation: which cells there are, and with what budget each is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from locret.cache.budget import LONGEST, Budget, Positions
from locret.errors import LocretError
from locret.eval.needles import SPLITS
from locret.eval.quizzes.names import Kind, keys_of, kind_of
from locret.eval.reading import CHUNKED, Compared, budgeted, prefill_of
from locret.typed import from_object

LONG = 16384
SHORT_CHUNK, LONG_CHUNK = 256, 1024
MOST_KEYS = 1 << 16
PROTECTED = 32  # default stabilizers, and default local tail


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """How the budgets of a grid are made of its sizes; None takes a default.

    Attributes:
        chunk: tokens read at once (256, from 16384 tokens on 1024).
        stabilizers: newest units kept after every chunk but the last (32, at most a quarter of the size).
        local: last tokens that are never evicted (32, at most a quarter of the size).
        positions: "true" or "compact".
        pin_first, pin_newest: the units at both ends that no cut evicts, whatever the policy; a size that does not
            hold them is refused.
    """

    chunk: int | None = None
    stabilizers: int | None = None
    local: int | None = None
    positions: Positions = "true"
    pin_first: int = 0
    pin_newest: int = 0

    def budget(self, size: int, length: int) -> Budget:
        """The budget of `size` units for documents of `length` tokens."""
        protected = min(PROTECTED, size // 4)
        return Budget(
            size=size,
            chunk=self.chunk if self.chunk is not None else (LONG_CHUNK if length >= LONG else SHORT_CHUNK),
            stabilizers=protected if self.stabilizers is None else self.stabilizers,
            local=protected if self.local is None else self.local,
            positions=self.positions,
            pin_first=self.pin_first,
            pin_newest=self.pin_newest,
        )


@dataclass(frozen=True, slots=True)
class Grid:
    """What is evaluated: every task x length x budget x seed, with every method.

    Attributes:
        tasks: names of tasks.
        lengths: tokens a document; what has a document of its own is cut to this length.
        budgets: units per KV head, or fractions of the length such as Fraction(1, 16).
        samples: questions a cell, at most; a file may hold fewer. Of tasks that force a continuation, documents.
        seeds: of the documents; every policy and budget sees the same ones.
        keys: facts hidden in a document of a template; None takes the task's own number.
        split: "heldout" hides keys that the built-in model was not trained on, "trained" those that it was.
        query_first: the question also stands before the document.
        rule: how budgets are made.
        chat: prompts stand in the tokenizer's chat template.
        max_new_tokens: tokens of an answer at most, where the task would allow more.
    """

    tasks: tuple[str, ...]
    lengths: tuple[int, ...]
    budgets: tuple[int | Fraction, ...]
    samples: int = 32
    seeds: tuple[int, ...] = (0,)
    keys: int | None = None
    split: str = "heldout"
    query_first: bool = False
    rule: BudgetRule = BudgetRule()
    chat: bool = False
    max_new_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in self.tasks:
            kind_of(name)
        for what in ("tasks", "lengths", "budgets", "seeds"):
            if not getattr(self, what):
                raise LocretError(f"no {what} are given: name at least one")
        if not 1 <= self.samples <= LONGEST:
            raise LocretError(f"samples is {self.samples}: ask at least 1 question a cell, at most {LONGEST}")
        if self.keys is not None and not 1 <= self.keys <= MOST_KEYS:
            raise LocretError(f"keys is {self.keys}: hide at least 1 fact in a document, at most {MOST_KEYS}")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise LocretError(f"max_new_tokens is {self.max_new_tokens}: allow at least 1")
        if self.split not in SPLITS:
            raise LocretError(f"split is {self.split!r}: choose one of {', '.join(SPLITS)}")
        forced = [name for name in self.tasks if kind_of(name) is Kind.FORCED]
        if self.query_first and forced:
            raise LocretError(f"{forced[0]} has no question to stand first: leave out --query-first, or this task")
        for length in self.lengths:
            if not 1 <= length <= LONGEST:
                raise LocretError(f"length is {length}: a document has at least 1 token, at most {LONGEST}")
        self.sizes()

    def sizes(self) -> list[Budget]:
        """The budgets of all lengths as they are wanted; documents of a file may turn out to be shorter.

        Raises:
            LocretError: one cannot be.
        """
        return [self.rule.budget(size_of(budget, length), length) for length in self.lengths for budget in self.budgets]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the grid: the settings that its score depends on.

    `policy` names the method as the user wrote it. `prefill` says how it reads: "chunked", or "dense" in memory that
    grows with the document. `data` names the file that examples come from, with a digest; "" for what is made here. The
    rest is the grid's.
    """

    policy: str
    task: str
    length: int
    budget: Budget
    samples: int
    seed: int
    keys: int
    split: str
    query_first: bool
    prefill: str = CHUNKED
    chat: bool = False
    max_new_tokens: int | None = None
    data: str = ""

    @property
    def documents(self) -> object:
        """Equal for cells with the same documents and questions: those that only policy and budget tell apart."""
        same = {"policy": "", "prefill": "", "budget": ""}
        return tuple(({**asdict(self), **same}).items())

    def as_json(self) -> dict[str, Any]:
        """The settings as one flat object; `budget` is the budget's size."""
        flat = asdict(self)
        budget = flat.pop("budget")
        return {**flat, "budget": budget.pop("size"), **budget}

    @classmethod
    def from_json(cls, flat: Mapping[str, Any]) -> Cell:
        """The cell of a flat object; settings that did not exist when it was written have their defaults.

        Raises:
            LocretError: a setting is missing, or is none that a cell can have.
        """
        return from_object(cls, flat, budget=from_object(Budget, {**flat, "size": flat.get("budget")}))


DEFAULTS = {one.name: one.default for kind in (Cell, Budget) for one in fields(kind) if one.default is not MISSING}


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a task there is to evaluate: see `cells`.

    Attributes:
        length: tokens a document.
        samples: questions.
        data: name and digest of the file that examples come from.
    """

    length: int
    samples: int
    data: str = ""


def as_wanted(task: str, length: int, samples: int) -> Extent:
    """As much as the grid says: true of what is made here."""
    return Extent(length, samples)


def size_of(budget: int | Fraction, length: int) -> int:
    """Units per KV head: the number itself, or that part of `length`.

    Raises:
        LocretError: it comes to less than one unit.
    """
    size = budget if isinstance(budget, int) else int(budget * length)
    if size < 1:
        raise LocretError(f"budget {budget} of {length} tokens is {size} units: give at least 1")
    return size


def parse_budget(text: str) -> int | Fraction:
    """A budget as the user writes it: `256`, or `1/16` for that part of the length.

    Raises:
        LocretError: neither of the two, or not positive.
    """
    try:
        value = Fraction(text) if "/" in text else int(text)
    except (ValueError, ZeroDivisionError):
        raise LocretError(f"budget is {text!r}: give a number of units such as 256, or a part such as 1/16") from None
    if value <= 0:
        raise LocretError(f"budget is {text}: give at least 1 unit, or a part above 0 such as 1/16")
    return value


def cells(
    grid: Grid, policies: Mapping[str, Compared], extent: Callable[[str, int, int], Extent] = as_wanted
) -> Iterator[Cell]:
    """All cells. What does not go by the budget has one cell for all budgets, with the length as its budget.

    Args:
        grid: what is wanted.
        policies: by the name that rows carry.
        extent: (task, length, samples) -> how much of that there is.
    """
    for task in grid.tasks:
        for wanted in grid.lengths:
            found = extent(task, wanted, grid.samples)
            keys = min(grid.keys or keys_of(task), found.samples) if kind_of(task) is Kind.TEMPLATE else 1
            length = found.length
            for seed in grid.seeds:
                for name, policy in policies.items():
                    for budget in grid.budgets if budgeted(policy) else (length,):
                        yield Cell(
                            policy=name,
                            task=task,
                            length=length,
                            budget=grid.rule.budget(size_of(budget, length), length),
                            samples=found.samples,
                            seed=seed,
                            keys=keys,
                            split=grid.split,
                            query_first=grid.query_first,
                            prefill=prefill_of(policy),
                            chat=grid.chat,
                            max_new_tokens=grid.max_new_tokens,
                            data=found.data,
                        )
