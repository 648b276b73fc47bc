"""Examples of a benchmark, with the documents they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from locret.eval.benchmarks.base import BenchmarkTask, Example, answer
from locret.eval.benchmarks.truncation import Frame, PromptIds, context_ids, prompt_ids, question_ids
from locret.eval.haystack import text_ids
from locret.eval.judging import columns_of
from locret.eval.quizzes.contract import Asked, Passage, Question, Texts
from locret.eval.ruler.tasks import list_ruler_tasks
from locret.models.tokens import shared_beginning

ONE_NEEDLE = ("niah_single", "niah_multikey")
HIDDEN = {"passkey", "number_string", "kv_retrieval"} | {
    name for name in list_ruler_tasks() if name.startswith(ONE_NEEDLE)
}  # tasks whose answer stands at one place of the document, and nowhere by chance


@dataclass(frozen=True)
class ExampleQuiz:
    """The examples of a cell: see `quizzes.contract.Quiz`.

    Attributes:
        name: of the task, as `--tasks` takes it.
        task: reads and scores.
        documents: the examples of each document.
        tokenizer: of the model.
        frame: what prompts stand in.
        limit: tokens of a prompt at most; the middle of longer documents is cut out. None cuts nothing.
        query_first: the question also stands before the document.
        max_new_tokens: of an answer.
    """

    name: str
    task: BenchmarkTask
    documents: Sequence[Sequence[Example]]
    tokenizer: Any
    frame: Frame
    limit: int | None
    query_first: bool
    max_new_tokens: int
    stop: tuple[str, ...] = ()

    @property
    def readings(self) -> int:
        """A reading a document, or an example where its question stands first."""
        return sum(map(len, self.documents)) if self.query_first else len(self.documents)

    def passages(self) -> Iterator[Passage]:
        """Every document, for all of its questions at once; or once for each, with the question before it."""
        for number, examples in enumerate(self.documents):
            if not self.query_first:
                yield self._passage(number, examples)
                continue
            for example in examples:
                asked = f"{example.question.strip()}\n\n"
                passage = self._passage(number, [replace(example, before=asked + example.before)])
                yield replace(passage, asked=self._tokens_of(asked, passage.ids))

    def _tokens_of(self, asked: str, ids: Sequence[int]) -> int:
        """How many of `ids` are the frame's head and `asked`; a token that holds more than that is not counted."""
        expected = (*self.frame.head, *text_ids(self.tokenizer, asked))
        return shared_beginning(expected, ids)

    def _passage(self, number: int, examples: Sequence[Example]) -> Passage:
        asked = [question_ids(self.tokenizer, example, self.frame) for example in examples]
        room = max(map(len, asked))  # the longest question must fit, and all get the same context
        ids = context_ids(self.tokenizer, examples[0], self.frame, self.limit, room)
        questions = (
            Question(example.uid, question, example, depth=depth_of(self.task, example))
            for example, question in zip(examples, asked, strict=True)
        )
        return Passage(number, ids, tuple(questions))

    def line(self, question: Question, asked: Asked) -> dict[str, Any]:
        """Ask; the line has the fields of the benchmark's own prediction files, and how right the answer is."""
        example: Example = question.item

        def put(one: Example) -> str:
            return asked.answer(PromptIds((), question.ids) if one is example else self._aside(one))

        line = {**self.task.prediction(example, answer(example, put)), "uid": example.uid}
        share = np.nanmean(columns_of(self.name, [line])) / 100
        return {**line, "score": round(float(share), 6)}

    def _aside(self, example: Example) -> PromptIds:
        """A prompt of its own. All but its first token count as the question, so that none of it is evicted."""
        ids = tuple(prompt_ids(self.tokenizer, example, frame=self.frame).ids)
        return PromptIds(ids[:1], ids[1:])

    def texts(self, question: Question) -> Texts:
        """The question in words."""
        example: Example = question.item
        return Texts(example.before + example.document, example.question, example.answer_prefix, example.label)


def depth_of(task: BenchmarkTask, example: Example) -> float | None:
    """Where in its document the answer stands, 0 to 1; None where it has no one place."""
    if task.name not in HIDDEN or not example.document:
        return None
    label = example.label if isinstance(example.label, str) else str(example.label[0])
    place = example.document.find(label)
    return None if place < 0 else place / len(example.document)
