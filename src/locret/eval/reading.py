"""How the documents of a cell are read and asked: by the engine, or by a method that does so in its own way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor

from locret.cache.budget import Budget
from locret.engine import Engine, Method, Session
from locret.engine.engine import Progress
from locret.policies.base import Policy

CHUNKED = "chunked"


class Read(Protocol):
    """A document that was read. Questions about it never change it."""

    @property
    def tokens_seen(self) -> int:
        """Tokens of the document."""
        ...

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are held of it, wherever they are."""
        ...

    @property
    def offloaded_bytes(self) -> int:
        """Those of `kv_bytes` that are not on the device."""
        ...

    @property
    def prefill_seconds(self) -> float:
        """Time spent on reading."""
        ...


S = TypeVar("S", bound=Read)


class Reading(Protocol[S]):
    """Reads documents with one method at one budget, and answers questions about them."""

    def read(self, document: Sequence[int], progress: Progress, asked: int = 0) -> S:
        """Read token ids, the first `asked` of them a question's; `progress` is told (tokens read, tokens in all)."""
        ...

    def ask(self, session: S, question: Sequence[int], max_new_tokens: int, stop: Sequence[str]) -> str:
        """Read a question on top of a document and answer greedily, up to one of the strings in `stop`."""
        ...

    def score(self, session: S, ids: Sequence[int]) -> Iterator[Tensor]:
        """The logits that predict each of the given tokens behind a document, in pieces [piece, vocab]."""
        ...


@runtime_checkable
class OwnReading(Protocol):
    """A method that says itself how it reads.

    Attributes:
        prefill: how it reads, as rows say it: "chunked" in fixed memory, "dense" in memory that grows.
    """

    prefill: ClassVar[str]

    @property
    def budgeted(self) -> bool:
        """Whether another budget makes a difference to it; if not, it is read once for all of them."""
        ...

    def open_reading(self, model: Any, tokenizer: Any, budget: Budget) -> Reading[Any]:
        """Begin to read for `model`."""
        ...


Compared: TypeAlias = "Policy | OwnReading"


@dataclass(frozen=True)
class EngineReading:
    """Reading by the engine, in chunks."""

    engine: Engine

    def read(self, document: Sequence[int], progress: Progress, asked: int = 0) -> Session:
        """Read with eviction after every chunk; a policy that takes notice is told of the question in front."""
        return self.engine.prefill(document, progress=progress, question_tokens=asked)

    def ask(self, session: Session, question: Sequence[int], max_new_tokens: int, stop: Sequence[str]) -> str:
        """The question is a turn of its own."""
        asked = self.engine.prefill(question, session)
        return self.engine.generate(asked, max_new_tokens=max_new_tokens, stop=stop).text

    def score(self, session: Session, ids: Sequence[int]) -> Iterator[Tensor]:
        """The tokens are read like an answer: none of them is evicted, unless the budget says so for answers."""
        return self.engine.score_pieces(session, ids)


@dataclass(frozen=True)
class Combined:
    """A method of the engine, with its policy.

    Attributes:
        method: what is kept, how it is held and what a query looks at; a storage whose sizes can go by the budget does.
        policy: made of the method's policy name.
    """

    method: Method
    policy: Policy
    prefill: ClassVar[str] = CHUNKED

    @property
    def budgeted(self) -> bool:
        """Whether the policy or the storage goes by the budget."""
        return self.method.budgeted

    def open_reading(self, model: Any, tokenizer: Any, budget: Budget) -> EngineReading:
        """Begin to read for `model`."""
        return EngineReading(self.method.engine(model, tokenizer, policy=self.policy, budget=budget))


def open_reading(compared: Compared, model: Any, tokenizer: Any, budget: Budget) -> Reading[Any]:
    """The reading of a method that says how it reads, or the engine's under a policy."""
    if isinstance(compared, OwnReading):
        return compared.open_reading(model, tokenizer, budget)
    return EngineReading(Engine(model, tokenizer, policy=compared, budget=budget))


def prefill_of(compared: Compared) -> str:
    """How it reads, as rows say it."""
    return compared.prefill if isinstance(compared, OwnReading) else CHUNKED


def budgeted(compared: Compared) -> bool:
    """Whether it has a cell for every budget, and not one for all of them."""
    return compared.budgeted if isinstance(compared, OwnReading) else compared.evicts
