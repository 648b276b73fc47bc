"""Contestants by name, for one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from locret.bench.contestants import LIMIT, PLAIN, Bare, Contestant, Engined, limit, plain
from locret.cache.budget import Budget
from locret.engine import Engine, parse
from locret.policies import Policy

BARE: dict[str, Callable[[Any, Budget, int], Bare]] = {
    PLAIN: lambda model, budget, new_tokens: plain(model, budget),
    LIMIT: limit,
}


def check_names(names: Sequence[str], positions: str) -> None:
    """Refuse unknown names, and methods that contradict themselves, before weights are read.

    Raises:
        LocretError: naming the part that is unknown, and those there are.
    """
    for name in names:
        if name not in BARE:
            parse(name).check(positions)


def line_up(
    names: Sequence[str], model: Any, make_policy: Callable[[str], Policy], budget: Budget, new_tokens: int
) -> list[Contestant]:
    """The contestants of these names.

    Args:
        names: "transformers", "limit", or methods ("locret", "full", "locret+quant4").
        model: a causal language model.
        make_policy: makes a policy by name.
        budget: how all of them read.
        new_tokens: tokens of an answer.

    Raises:
        LocretError: as `check_names`, or the method does not fit the model.
    """
    return [
        BARE[name](model, budget, new_tokens) if name in BARE else _engined(name, model, make_policy, budget)
        for name in names
    ]


def _engined(name: str, model: Any, make_policy: Callable[[str], Policy], budget: Budget) -> Engined:
    method = parse(name)
    engine = Engine(
        model, policy=make_policy(method.policy), budget=budget, attention=method.attention, storage=method.storage
    )
    return Engined(name, engine)
