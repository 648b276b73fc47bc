"""How the documents of a cell are read and asked: by the engine, or by a method that does so in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, runtime_checkable

from locret.cache.budget import Budget
from locret.engine import Engine, Session
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
        """Bytes of keys and values that are held of it."""
        ...

    @property
    def prefill_seconds(self) -> float:
        """Time spent on reading."""
        ...


S = TypeVar("S", bound=Read)


class Reading(Protocol[S]):
    """Reads documents with one method at one budget, and answers questions about them."""

    def read(self, document: Sequence[int], progress: Progress) -> S:
        """Read token ids; `progress` is told (tokens read, tokens in all)."""
        ...

    def ask(self, session: S, question: Sequence[int], max_new_tokens: int, stop: Sequence[str]) -> str:
        """Read a question on top of a document and answer greedily, up to one of the strings in `stop`."""
        ...


@runtime_checkable
class OwnReading(Protocol):
    """A method that is compared with policies and does not go through the engine.

    Attributes:
        evicts: False for a method that keeps everything, whatever the budget.
        prefill: how it reads, as rows say it: "chunked" in fixed memory, "dense" in memory that grows.
    """

    evicts: ClassVar[bool]
    prefill: ClassVar[str]

    def open_reading(self, model: Any, tokenizer: Any, budget: Budget) -> Reading[Any]:
        """Begin to read for `model`."""
        ...


Compared: TypeAlias = "Policy | OwnReading"


@dataclass(frozen=True)
class EngineReading:
    """Reading by the engine, in chunks."""

    engine: Engine

    def read(self, document: Sequence[int], progress: Progress) -> Session:
        """Read with eviction after every chunk."""
        return self.engine.prefill(document, progress=progress)

    def ask(self, session: Session, question: Sequence[int], max_new_tokens: int, stop: Sequence[str]) -> str:
        """The question is a turn of its own."""
        asked = self.engine.prefill(question, session)
        return self.engine.generate(asked, max_new_tokens=max_new_tokens, stop=stop).text


def open_reading(compared: Compared, model: Any, tokenizer: Any, budget: Budget) -> Reading[Any]:
    """The reading of a method that has its own, or the engine's under a policy."""
    if isinstance(compared, OwnReading):
        return compared.open_reading(model, tokenizer, budget)
    return EngineReading(Engine(model, tokenizer, policy=compared, budget=budget))


def prefill_of(compared: Compared) -> str:
    """How it reads, as rows say it."""
    return compared.prefill if isinstance(compared, OwnReading) else CHUNKED
