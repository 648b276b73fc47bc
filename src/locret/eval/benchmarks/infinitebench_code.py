"""InfiniteBench's code_run made anew: functions that call one another and add a little."""

from __future__ import annotations

import random

DEPTHS = (2, 4, 6, 8, 10)  # calls from the function that is asked for to one that calls none
SUMMANDS = range(-12, 18)
ARGUMENTS = range(-10, 11)
MODULE = "\nHere is the content of functions_module.py:\n\n"


def code_run(rng: random.Random, functions: int, place: float) -> tuple[str, str, int]:
    """Context, question and answer.

    Args:
        rng: draws names, calls and numbers.
        functions: how many; their names are numbers up to twice that.
        place: 0 up to 1, which of `DEPTHS`.
    """
    depth = DEPTHS[int(place * len(DEPTHS) + 1e-9)]
    size = functions // depth
    names = rng.sample(range(1, 2 * functions + 1), depth * size)
    levels = [names[level * size : (level + 1) * size] for level in range(depth)]
    calls: dict[int, tuple[int | None, int]] = {}
    for level, below in zip(levels, [*levels[1:], None], strict=True):
        for name in level:
            calls[name] = (rng.choice(below) if below else None, rng.choice(SUMMANDS))
    asked, argument = rng.choice(levels[0]), rng.choice(ARGUMENTS)
    text = MODULE + "".join(_function(name, *calls[name]) for name in sorted(calls))
    question = (
        f"Please give me the exact number of the return value of func_{asked}({argument}). "
        "Your response should end with the sentence 'The return value is:'."
    )
    return text, question, argument + _added(asked, calls)


def _function(name: int, called: int | None, summand: int) -> str:
    value = "x" if called is None else f"func_{called}(x)"
    sign = "-" if summand < 0 else "+"
    added = f" {sign} {abs(summand)}" if summand else ""
    return f"def func_{name}(x):\n    return {value}{added}\n\n"


def _added(name: int | None, calls: dict[int, tuple[int | None, int]]) -> int:
    """What a function and all that it calls add to its argument."""
    total = 0
    while name is not None:
        name, summand = calls[name]
        total += summand
    return total
