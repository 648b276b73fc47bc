"""Needles of the built-in templates, hidden in real text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from locret.eval.benchmarks.truncation import Frame, PromptIds
from locret.eval.contexts import contexts
from locret.eval.grid import Cell
from locret.eval.haystack import Context, Filler, plain_ids
from locret.eval.needles import Needle
from locret.eval.quizzes.contract import Asked, Passage, Question, Texts
from locret.eval.tasks import get_task
from locret.models.tokens import beginning_of_text

SEPARATOR = "\n"


@dataclass(frozen=True, slots=True)
class Hidden:
    """A needle and the document it is in."""

    needle: Needle
    context: Context


@dataclass(frozen=True)
class TemplateQuiz:
    """The needles of a cell: see `quizzes.contract.Quiz`."""

    cell: Cell
    tokenizer: Any
    filler: Filler
    frame: Frame
    max_new_tokens: int

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings that end an answer."""
        return get_task(self.cell.task).stop

    @property
    def readings(self) -> int:
        """A reading a document, or a question where that stands first."""
        return self.cell.samples if self.cell.query_first else -(-self.cell.samples // self.cell.keys)

    def passages(self) -> Iterator[Passage]:
        """Documents of exactly the cell's length; what stands in front of them is not counted."""
        for number, context in enumerate(contexts(self.cell, self.tokenizer, self.filler)):
            if not self.cell.query_first:
                yield self._passage(number, context, range(len(context.needles)), ())
                continue
            for index, needle in enumerate(context.needles):
                first = plain_ids(self.tokenizer, needle.asked + SEPARATOR)
                yield self._passage(number, context, range(index, index + 1), tuple(first))

    def _passage(self, number: int, context: Context, asked: range, first: tuple[int, ...]) -> Passage:
        bos = len(beginning_of_text(self.tokenizer))
        before = (*self.frame.head, *first)
        questions = (self._question(f"{number}-{index}", context, index, len(before) - bos) for index in asked)
        ids = (*before, *context.document_ids[bos:])
        return Passage(number, ids, tuple(questions), len(before) if first else 0)

    def _question(self, uid: str, context: Context, index: int, shift: int) -> Question:
        needle, position = context.needles[index], context.positions[index]
        depth = position / len(context.document_ids)
        return Question(uid, self._ids(needle), Hidden(needle, context), position + shift, depth)

    def _ids(self, needle: Needle) -> tuple[int, ...]:
        prefix = needle.question.removeprefix(needle.asked)
        return tuple(plain_ids(self.tokenizer, SEPARATOR + needle.asked + self.frame.tail + prefix))

    def line(self, question: Question, asked: Asked) -> dict[str, Any]:
        """Ask; an answer is right or wrong."""
        needle = question.item.needle
        text = asked.answer(PromptIds((), question.ids))
        return {
            "uid": question.uid,
            "kind": needle.kind,
            "question": needle.asked,
            "answer": needle.value,
            "prediction": text,
            "score": get_task(self.cell.task).score(text, needle),
        }

    def texts(self, question: Question) -> Texts:
        """The question in words."""
        needle, context = question.item.needle, question.item.context
        prefix = needle.question.removeprefix(needle.asked)
        return Texts(context.document, SEPARATOR + needle.asked, prefix, needle.value)
