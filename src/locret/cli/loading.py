"""Loading what `--model`, `--heads` and `--policy` name. Methods are checked before any weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from locret.cache.budget import Budget
from locret.engine import Method, parse
from locret.errors import LocretError
from locret.eval.reading import Combined, Compared
from locret.interop.press_policy import PressPolicy
from locret.interop.presses import PREFIX, get_press
from locret.models.heads import RetainingHeads
from locret.models.loading import load_model
from locret.policies import Policy, get_policy, policy_options


@dataclass(frozen=True)
class Loaded:
    """A model ready for use: with its tokenizer, and heads if there are any."""

    model: Any
    tokenizer: Any
    heads: RetainingHeads | None

    def policy(self, name: str, seed: int = 0) -> Policy:
        """The policy `name`, with heads or seed where it takes them.

        Raises:
            LocretError: it needs heads and there are none.
        """
        given = {"heads": self.heads, "seed": seed}
        options = {option: given[option] for option in policy_options(name) if option in given}
        if "heads" in options and self.heads is None:
            raise LocretError(
                f"policy {name!r} needs retaining heads and none came with this model: "
                "name them with --heads, or train them with `locret train`"
            )
        return get_policy(name, **options)

    def compared(self, name: str) -> Compared:
        """The method `name` with its policy, or the press of kvpress that it names.

        Raises:
            LocretError: as `parse` and `policy` do, or there is no such press.
        """
        if name.startswith(PREFIX):
            return PressPolicy(name.removeprefix(PREFIX))
        method = parse(name)
        return Combined(method, self.policy(method.policy))


def check_method(name: str, budget: Budget, sized: bool = True) -> Method:
    """The method `name`, if it can read under a budget.

    Args:
        name: a policy, or policy, storage and attention joined by "+".
        budget: how prompts are read.
        sized: whether storages whose sizes can go by the budget do so.

    Raises:
        LocretError: an unknown part, parts that contradict each other or the budget, or too small a budget.
    """
    if name.startswith(PREFIX):
        raise LocretError(f"{name} can only be compared: `locret eval --policies {name}`")
    method = parse(name)
    method.check(budget.positions)
    if sized:
        method.sized_storage(budget)
    return method


def check_compared(names: Sequence[str], budgets: Sequence[Budget]) -> None:
    """Refuse what cannot be compared under every one of some budgets: methods (`check_method`), presses of kvpress.

    Raises:
        LocretError: naming it, with the reason.
    """
    for name in names:
        if name.startswith(PREFIX):
            get_press(name.removeprefix(PREFIX))
            continue
        for budget in budgets:
            check_method(name, budget)


def load(model: str, heads: str | None, dtype: str, device: str, **options: Any) -> Loaded:
    """Load a model, and heads from `heads` instead of its own if that is given; further options are `load_model`'s."""
    chosen = None if heads is None else RetainingHeads.from_pretrained(heads)
    backbone, tokenizer, own = load_model(model, dtype, device, **options)
    return Loaded(backbone, tokenizer, chosen or own)
