"""Which policies, storages and positions go together. A storage says by class attributes what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from locret.cache.budget import Budget
from locret.cache.storage import Storage, Trained, get_storage
from locret.errors import LocretError
from locret.policies.base import Policy


def fitting_storage(storage: str | Callable[[], Storage], policy: Policy, budget: Budget) -> Callable[[], Storage]:
    """The maker of empty storages for a cache.

    Args:
        storage: a registered name, or a maker.
        policy, budget: what the cache is for.

    Raises:
        LocretError: unknown storage, or one that contradicts policy or budget; or these are something else.
    """
    if not hasattr(policy, "evicts"):
        raise LocretError(f"policy is {policy!r}: give the policy itself, as get_policy makes it of a name")
    if not isinstance(budget, Budget):
        raise LocretError(f"budget is {budget!r}: give a Budget, such as Budget(size=1024)")
    empty = get_storage(storage) if isinstance(storage, str) else storage
    name = storage if isinstance(storage, str) else type(empty()).__name__.lower()
    check_policy(name, empty, policy.evicts)
    check_positions(name, empty, budget.positions)
    return empty


def layer_makers(empty: Callable[[], Storage], model: nn.Module, layers: int) -> Sequence[Callable[[], Storage]]:
    """The maker of each layer: the same one, but for storages with trained weights.

    Raises:
        LocretError: there are no weights for this model.
    """
    return empty.for_model(model) if isinstance(empty, Trained) else [empty] * layers


def check_policy(name: str, empty: Callable[[], Storage], evicts: bool) -> None:
    """Refuse a policy that evicts with a storage that keeps everything.

    Raises:
        LocretError: with the reason.
    """
    if evicts and getattr(empty(), "keeps_everything", False):
        raise LocretError(
            f"storage {name!r} keeps everything and chooses what each pass sees, so nothing may be evicted: "
            "use it with policy 'full'"
        )


def check_positions(name: str, empty: Callable[[], Storage], positions: str) -> None:
    """Refuse compact positions for a storage whose units have no places among the kept ones.

    Raises:
        LocretError: with the reason.
    """
    if positions != "true" and getattr(empty(), "stays_in_place", False):
        raise LocretError(
            f'storage {name!r} needs positions="true": evicted units have no places among compact positions'
        )
