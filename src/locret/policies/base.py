"""The contract of a policy, and the register of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from locret.errors import LocretError
from locret.models.families import Projections
from locret.models.queries import Queries
from locret.registry import Registry


@dataclass(frozen=True, slots=True)
class Units:
    """What a policy may look at: the KV units of one layer, the stored ones first, the new ones after them.

    Attributes:
        layer: index of the layer.
        projections: q, k, v of the new tokens before rotary embedding, see `Projections`; None where the model has
            no hooks (units put into the cache by hand).
        keys: [batch, kv_heads, stored + new, head_dim], as they are cached (after rotary embedding).
        positions: [batch, kv_heads, stored + new], prompt positions, ascending; for a policy with `any_order` those of
            the stored units may be in any order, other in every head, but every new unit is newer than they are.
        scores: [batch, kv_heads, stored], fp32: what this policy said before of the stored units.
        queries: gives the newest n of the new queries, see `locret.models.queries.Queries`; None without hooks.
        surprise: [batch, new], fp32: -log p of each new token given all before it, the first of a pass having the
            pass' largest; only for a policy with `scores_after_pass`.
        asked: [batch, q_heads, question, head_dim], fp32: the queries of the question that stands before the document,
            times the attention's scaling, as if it stood right behind the newest unit; only for a policy that
            `AsksAgain`, once the whole question was read. None in a padded batch.
        hidden: [batch, new, hidden]: what `projections` are projections of; None without hooks.
    """

    layer: int
    projections: Projections | None
    keys: Tensor
    positions: Tensor
    scores: Tensor
    queries: Queries | None = None
    surprise: Tensor | None = None
    asked: Tensor | None = None
    hidden: Tensor | None = None

    @property
    def new_positions(self) -> Tensor:
        """Prompt positions of the new units alone: [batch, kv_heads, new]."""
        return self.positions[..., self.scores.shape[-1] :]

    def append(self, new_scores: Tensor) -> Tensor:
        """Old scores and, after them, those of the new units: [batch, kv_heads, stored + new]."""
        return torch.cat([self.scores, new_scores.to(self.scores.dtype)], dim=-1)


class Policy(Protocol):
    """Scores units; the higher, the more worth keeping. A policy holds no state of a prompt: that is in the cache.

    Attributes:
        name: what it is registered as.
        evicts: False for a policy that keeps everything, whatever the budget.
        scores_after_pass: True for a policy that scores by the model's predictions, which are known after the pass.
        any_order: True (False where it is missing) for a policy that goes by positions, never by a stored unit's index:
            evictions then need not keep units in the order of the prompt, and move fewer. `positions` in `rank` are as
            in `Units`.
    """

    name: ClassVar[str]
    evicts: ClassVar[bool]
    scores_after_pass: ClassVar[bool]

    def check(self, model: nn.Module) -> None:
        """Called once for every cache: raise LocretError if this cannot work with `model`."""

    def score(self, units: Units) -> Tensor:
        """Scores of all units, fp32: [batch, kv_heads, stored + new]. +inf pins a unit; NaN is refused."""
        ...

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """What a cut to `size` units goes by: the scores, or the scores with some units pinned for this once.

        Shapes: scores, positions and result [batch, kv_heads, units].
        """
        ...


@runtime_checkable
class HasWeights(Protocol):
    """A policy with weights, which have to be where and how a model computes."""

    def beside(self, model: nn.Module) -> Policy:
        """The same policy for `model`. It shares what fits, and is not changed itself: other models may use it."""
        ...


@runtime_checkable
class QueryAware(Protocol):
    """A policy that keeps other units where it knows what will be asked. It is made for one question."""

    def asked(self, tokens: int) -> Policy:
        """The same policy for a prompt whose first `tokens` tokens belong to the question, BOS and the like included.

        Nothing is copied: weights are shared.
        """
        ...


@runtime_checkable
class AsksAgain(Protocol):
    """A policy that wants the question's own queries in every pass: `Units.asked`."""

    @property
    def asks_again(self) -> int:
        """How many tokens at the start of the prompt belong to the question; 0 where it is not known."""
        ...


AnyPolicy = TypeVar("AnyPolicy")
_policies: Registry[Callable[..., Policy]] = Registry("policy")


def register_policy(cls: type[AnyPolicy]) -> type[AnyPolicy]:
    """Class decorator: register a policy under its `name`.

    Raises:
        LocretError: the name is taken.
    """
    _policies.register(cls.name)(cls)  # type: ignore[attr-defined, arg-type]
    return cls


def list_policies() -> list[str]:
    """Names of all registered policies."""
    return _policies.names()


def policy_options(name: str) -> dict[str, Field[Any]]:
    """The options of a policy: the fields of its dataclass, by name.

    Raises:
        LocretError: unknown policy.
    """
    factory: Any = _policies.get(name)
    return {field.name: field for field in fields(factory)}


def get_policy(name: str, **options: Any) -> Policy:
    """A policy by name, with its options.

    Raises:
        LocretError: unknown policy, an option it does not have, or one that it needs and was not given.
    """
    factory: Any = _policies.get(name)
    known = policy_options(name)
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise LocretError(f"policy {name!r} has no option {unknown[0]!r}: its options are {sorted(known) or 'none'}")
    missing = [
        key
        for key, field in known.items()
        if key not in options and field.default is MISSING and field.default_factory is MISSING
    ]
    if missing:
        raise LocretError(f"policy {name!r} needs {missing[0]!r}: call get_policy({name!r}, {missing[0]}=...)")
    policy: Policy = factory(**options)
    return policy
