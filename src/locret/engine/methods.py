"""Methods: what is kept, how it is held and what a query looks at, under one name (`locret+quant4`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from locret.attention import list_attentions
from locret.attention.select import check_attention, in_order
from locret.cache.budget import Budget
from locret.cache.fit import check_policy, check_positions
from locret.cache.storage import Sized, Storage, get_storage, list_storages
from locret.engine.engine import Engine
from locret.errors import LocretError
from locret.policies import Policy, list_policies

NEUTRAL = {"policy": "full", "storage": "dense", "attention": "split"}
_REGISTERS: dict[str, Callable[[], list[str]]] = {
    "policy": list_policies,
    "storage": list_storages,
    "attention": list_attentions,
}


@dataclass(frozen=True, slots=True)
class Method:
    """Three choices that do not depend on each other, as names for `get_policy` and `Engine`.

    Attributes:
        policy: what is kept.
        storage: how it is held.
        attention: what a query looks at, and how that is computed.
    """

    policy: str = NEUTRAL["policy"]
    storage: str = NEUTRAL["storage"]
    attention: str = NEUTRAL["attention"]

    @property
    def name(self) -> str:
        """The shortest expression that `parse` takes for it."""
        parts = [getattr(self, kind) for kind, neutral in NEUTRAL.items() if getattr(self, kind) != neutral]
        return "+".join(parts) or NEUTRAL["policy"]

    @property
    def evicts(self) -> bool:
        """Whether anything is ever evicted: there is one policy that keeps everything."""
        return self.policy != NEUTRAL["policy"]

    @property
    def budgeted(self) -> bool:
        """Whether another budget makes another method of it: it evicts, or its storage has sizes that go by one."""
        return self.evicts or isinstance(get_storage(self.storage), Sized)

    def sized_storage(self, budget: Budget) -> str | Callable[[], Storage]:
        """The storage for a budget that the user chose: for most its name, for some a maker of another size.

        Raises:
            LocretError: the budget is too small for it.
        """
        maker = get_storage(self.storage)
        return maker.for_budget(budget) if isinstance(maker, Sized) else self.storage

    def engine(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        policy: Policy,
        budget: Budget,
        sized: bool = True,
        static: bool = False,
    ) -> Engine:
        """An engine that reads with this method.

        Args:
            model, tokenizer, budget, static: as `Engine` takes them.
            policy: made of the method's policy name (`get_policy`).
            sized: whether a storage whose sizes can go by the budget does so; otherwise it has its own.

        Raises:
            LocretError: the model, the budget or the parts do not fit.
        """
        storage = self.sized_storage(budget) if sized else self.storage
        return Engine(
            model, tokenizer, policy=policy, budget=budget, storage=storage, attention=self.attention, static=static
        )

    def check(self, positions: str = "true") -> None:
        """Refuse parts that contradict each other.

        Raises:
            LocretError: with the reason.
        """
        evicts, empty = self.evicts, get_storage(self.storage)
        if not evicts and getattr(empty(), "takes_evicted", False):
            raise LocretError(
                f"storage {self.storage!r} lives on what is evicted, and policy {self.policy!r} evicts nothing: "
                f"name another policy, as in streaming_llm+{self.storage}"
            )
        check_policy(self.storage, empty, evicts)
        check_positions(self.storage, empty, positions)
        check_attention(self.attention, evicts, getattr(empty(), "keeps_everything", False), positions)


def parse(text: str) -> Method:
    """The method that `text` names: policy, storage and attention joined by "+", in any order; each may be left out.

    >>> parse("quant4+locret")
    Method(policy='locret', storage='quant4', attention='split')
    >>> parse("infllm").policy
    'full'

    Raises:
        LocretError: an unknown part, two of one kind, or parts that contradict each other.
    """
    chosen: dict[str, str] = {}
    for part in (part.strip() for part in text.split("+")):
        kind = _kind(part, text)
        if kind in chosen:
            same = "twice" if chosen[kind] == part else f"beside {chosen[kind]!r}"
            raise LocretError(f"method {text!r} names {kind} {part!r} {same}: name one {kind} at most")
        chosen[kind] = part
    method = Method(**{**NEUTRAL, **chosen})
    method.check()
    return method


def list_methods() -> list[str]:
    """Every part that is a method by itself; attentions that compute the same in another way are left out."""
    storages = (name for name in list_storages() if name != NEUTRAL["storage"])
    return sorted(name for name in (*list_policies(), *storages, *in_order) if _alone(name))


def _alone(name: str) -> bool:
    try:
        parse(name)
    except LocretError:
        return False
    return True


def _kind(part: str, text: str) -> str:
    kinds = [kind for kind, names in _REGISTERS.items() if part in names()]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise LocretError(f"{part!r} in method {text!r} is both a {kinds[0]} and a {kinds[1]}: rename one")
    known = "; ".join(f"{kind}: {', '.join(names())}" for kind, names in _REGISTERS.items())
    raise LocretError(f"unknown part {part!r} in method {text!r}: choose from {known}")
