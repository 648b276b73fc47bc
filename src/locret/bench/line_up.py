"""Contestants by name, for one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from locret.bench.contestants import LIMIT, PLAIN, Bare, Contestant, Engined, limit, plain
from locret.cache.budget import Budget
from locret.engine import parse
from locret.policies import Policy

BARE: dict[str, Callable[[Any, Budget, int], Bare]] = {
    PLAIN: lambda model, budget, new_tokens: plain(model, budget),
    LIMIT: limit,
}


def check_names(names: Sequence[str], budget: Budget, sized: bool = True) -> None:
    """Refuse unknown names, and methods that contradict themselves or the budget, before weights are read.

    Raises:
        LocretError: naming the part that is unknown, and those there are.
    """
    for name in (name for name in names if name not in BARE):
        method = parse(name)
        method.check(budget.positions)
        if sized:
            method.sized_storage(budget)


def line_up(
    names: Sequence[str],
    model: Any,
    make_policy: Callable[[str], Policy],
    budget: Budget,
    new_tokens: int,
    sized: bool = True,
    static: bool = False,
) -> list[Contestant]:
    """The contestants of these names.

    Args:
        names: "transformers", "limit", or methods ("locret", "full", "locret+quant4").
        model: a causal language model.
        make_policy: makes a policy by name.
        budget: how all of them read.
        new_tokens: tokens of an answer.
        sized: whether storages whose sizes can go by the budget do so (infllm); otherwise they have their own.
        static: whether methods write in static shapes.

    Raises:
        LocretError: as `check_names`, or the method does not fit the model.
    """

    def engined(name: str) -> Engined:
        method = parse(name)
        policy = make_policy(method.policy)
        return Engined(name, method.engine(model, policy=policy, budget=budget, sized=sized, static=static))

    return [BARE[name](model, budget, new_tokens) if name in BARE else engined(name) for name in names]
