"""Question answering: the document that holds the answer among others of the same data set."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from locret.errors import LocretError
from locret.eval.ruler.contract import Drafter, Setup
from locret.eval.ruler.questions import Library, Question
from locret.eval.ruler.sources import fetch, read_foreign_json
from locret.eval.ruler.wording import Prompt, Wording

DOCUMENT_TOKENS = 4  # "Document 1:" and a line end have as many under any tokenizer
INSTRUCTION = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
)


@dataclass(frozen=True, slots=True)
class QuestionAnswering:
    """Parameters of question answering.

    Attributes:
        title: the data set, for messages.
        address: where to get its file.
        read: understands its file.
    """

    title: str
    address: str
    read: Callable[[Any], Library]

    @property
    def wording(self) -> Wording:
        """RULER's words."""
        return Wording(
            f"{INSTRUCTION}\n\nThe following are given documents.\n\n",
            f"\n\n{INSTRUCTION}\n\nQuestion: {{query}}",
            " Answer:",
        )

    def prepare(self, setup: Setup) -> Drafter:
        """Read the data set."""
        library = self._library(setup)
        have = len(library.questions)
        if setup.samples > have:
            raise LocretError(
                f"{setup.samples} samples of {setup.task} are more than the {have} questions of "
                f"{setup.sources.questions}: give at most {have}, or all of {self.title}"
            )

        def draft(index: int, rng: random.Random) -> QuestionDraft:
            question = library.questions[index]
            taken = {*question.needed, *question.related}
            free = [number for number in range(len(library.documents)) if number not in taken]
            related = rng.sample(question.related, len(question.related))
            others = rng.sample(free, min(len(free), setup.length // DOCUMENT_TOKENS))
            order = (*question.needed, *related, *others)
            places = tuple(rng.random() for _ in order)
            return QuestionDraft(self.wording, question, library.documents, order, places)

        return draft

    def _library(self, setup: Setup) -> Library:
        name = setup.sources.questions
        if name is None:
            raise LocretError(
                f"{setup.task} needs the file of {self.title}, which does not ship with locret: get {self.address} "
                "and give it as the questions"
            )
        data = read_foreign_json(fetch(name))
        try:
            return self.read(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LocretError(f"{name} is not {self.title} in its own format: get {self.address}") from error


@dataclass(frozen=True, slots=True)
class QuestionDraft:
    """A question with documents in the `order` in which they are added, each with its place among them."""

    wording: Wording
    question: Question
    documents: tuple[str, ...]
    order: tuple[int, ...]
    places: tuple[float, ...]

    @property
    def least(self) -> int:
        """Documents at least."""
        return len(self.question.needed)

    @property
    def most(self) -> int:
        """Documents at most."""
        return len(self.order)

    def prompt(self, units: int) -> Prompt:
        """The sample with so many documents."""
        chosen = sorted(zip(self.places[:units], self.order[:units], strict=True))
        texts = [f"Document {place}:\n{self.documents[number]}" for place, (_, number) in enumerate(chosen, start=1)]
        text = self.wording.input("\n\n".join(texts), query=self.question.text)
        return Prompt(text, self.wording.answer_prefix, self.question.answers)

    def is_sound(self, prompt: Prompt) -> bool:
        """The needed documents are there; what others of the data set say is not ours to choose."""
        return all(self.documents[number] in prompt.input for number in self.question.needed)
