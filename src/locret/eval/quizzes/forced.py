"""Fidelity tasks: true continuations that are forced on a document, a task for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from locret.eval.fidelity import build_passage
from locret.eval.grid import Cell
from locret.eval.haystack import Filler
from locret.eval.quizzes.contract import Asked, Passage, Question, Texts


@dataclass(frozen=True)
class ForcedQuiz:
    """The documents of a cell, each with one continuation: see `quizzes.contract.Quiz`.

    All seeds and samples have places of their own in the filler, as long as it has so many. The three tasks have the
    same documents.
    """

    cell: Cell
    tokenizer: Any
    filler: Filler
    max_new_tokens: int = 0
    stop: tuple[str, ...] = ()

    @property
    def readings(self) -> int:
        """A reading a document."""
        return self.cell.samples

    def passages(self) -> Iterator[Passage]:
        """Documents of exactly the cell's length; what stands in front of them is not counted."""
        return map(self._passage, range(self.cell.samples))

    def _passage(self, number: int) -> Passage:
        cell = self.cell
        index = cell.seed * cell.samples + number
        made = build_passage(self.tokenizer, self.filler, cell.length, index, cell.chat, wanted=(cell.task,))
        continuation = made.continuations[cell.task]
        return Passage(number, made.ids, (Question(str(number), continuation.ids, continuation),))

    def line(self, question: Question, asked: Asked) -> dict[str, Any]:
        """Force the continuation; the line has the means over its measured tokens, and the tokens that were put first.

        The score is the agreement.
        """
        told = asked.distances(question.item)
        return {
            "uid": question.uid,
            "answer": self.tokenizer.decode(question.item.targets),
            "prediction": self.tokenizer.decode(told.top.tolist()),
            "tokens": len(told.kl),
            "kl": _mean(told.kl),
            "agreement": _mean(told.agreement),
            "nll": _mean(told.nll),
            "full_nll": _mean(told.full_nll),
            "score": _mean(told.agreement),
        }

    def texts(self, question: Question) -> Texts:
        """The continuation in words; what stands before its first measured token counts as the question."""
        continuation = question.item
        passage = self._passage(int(question.uid))
        begin = continuation.measured.index(True)
        asked = self.tokenizer.decode(continuation.ids[:begin])
        return Texts(self.tokenizer.decode(passage.ids), asked, "", self.tokenizer.decode(continuation.targets))


def _mean(figures: Tensor) -> float:
    return round(float(figures.mean()), 8)
