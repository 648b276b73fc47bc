"""What the runner reads and asks: the documents of a cell, their questions, and the lines that answers make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from locret.eval.benchmarks.truncation import PromptIds
from locret.eval.fidelity import Continuation, Distances


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a passage.

    Attributes:
        uid: what it is called in its cell, the same in every run.
        ids: what is read on top of the passage: the question, and the beginning of its answer.
        item: what the quiz made it of.
        position: where the fact that is asked for begins in the passage, in tokens, where that is known.
        depth: the same in the document, 0 (its beginning) to 1.
    """

    uid: str
    ids: tuple[int, ...]
    item: Any
    position: int | None = None
    depth: float | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """Something to be read once, and the questions that are asked on top of it.

    Attributes:
        document: number of the document; with the question first, a document has several passages.
        ids: what is read.
        questions: about it.
        asked: how many of the first ids belong to a question that stands before the document, what is in front of that
            (BOS token, beginning of a chat) included; 0 where none does.
    """

    document: int
    ids: tuple[int, ...]
    questions: tuple[Question, ...]
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Texts:
    """A question in words, with `context` as it is before anything is cut out of it."""

    context: str
    question: str
    answer_prefix: str
    answer: Any


class Asked(Protocol):
    """A passage that has been read, and can be asked."""

    def answer(self, prompt: PromptIds) -> str:
        """Write an answer; a prompt without a context is asked on top of the passage."""
        ...

    def distances(self, continuation: Continuation) -> Distances:
        """Force a continuation on the passage, and on the same with full attention."""
        ...


class Quiz(Protocol):
    """Everything that a cell reads and asks."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens of an answer at most."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer."""
        ...

    @property
    def readings(self) -> int:
        """How many passages there are."""
        ...

    def passages(self) -> Iterator[Passage]:
        """All passages, made when they are needed; the same for every policy and budget."""
        ...

    def line(self, question: Question, asked: Asked) -> dict[str, Any]:
        """Ask a question; what its line of the prediction file says of it, its `uid` included."""
        ...

    def texts(self, question: Question) -> Texts:
        """The question in words."""
        ...
