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
) -> list[Contestant]:
    """The contestants of these names.

    Args:
        names: "transformers", "limit", or methods ("locret", "full", "locret+quant4").
        model: a causal language model.
        make_policy: makes a policy by name.
        budget: how all of them read.
        new_tokens: tokens of an answer.
        sized: whether storages whose sizes can go by the budget do so (infllm); otherwise they have their own.

    Raises:
        LocretError: as `check_names`, or the method does not fit the model.
    """
    return [
        BARE[name](model, budget, new_tokens) if name in BARE else _engined(name, model, make_policy, budget, sized)
        for name in names
    ]


def _engined(name: str, model: Any, make_policy: Callable[[str], Policy], budget: Budget, sized: bool) -> Engined:
    method = parse(name)
    return Engined(name, method.engine(model, policy=make_policy(method.policy), budget=budget, sized=sized))
