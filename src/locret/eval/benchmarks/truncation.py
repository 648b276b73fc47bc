"""Prompts that must be shorter: the middle is cut out, on tokens.

The benchmarks' authors cut the whole prompt, which may cut the question too (`whole_prompt_ids`). Here the document is
cut and the question never is (`prompt_ids`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.base import Example
from locret.eval.haystack import said_ids, text_ids
from locret.models.tokens import beginning_of_text


@dataclass(frozen=True, slots=True)
class PromptIds:
    """A prompt as token ids, apart, so that a document is read once for several questions.

    Attributes:
        context: BOS token if there is one, what stands before the document, and the document.
        question: the question and the beginning of its answer.
    """

    context: tuple[int, ...]
    question: tuple[int, ...]

    @property
    def ids(self) -> list[int]:
        """The whole prompt."""
        return [*self.context, *self.question]


def cut_middle(ids: Sequence[int], limit: int) -> list[int]:
    """The ids if there are at most `limit` of them, else the first and the last ``limit // 2``.

    >>> cut_middle(range(10), 5)
    [0, 1, 8, 9]
    """
    if len(ids) <= limit:
        return list(ids)
    half = max(limit, 0) // 2
    return [*ids[:half], *ids[len(ids) - half :]]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a prompt stands in.

    Attributes:
        head: token ids before everything: the BOS token, or the beginning of a chat.
        tail: text between a question and the beginning of its answer: the end of a chat's turn.
    """

    head: tuple[int, ...] = ()
    tail: str = ""


def plain_frame(tokenizer: Any) -> Frame:
    """The BOS token, where the tokenizer puts one before every text."""
    return Frame(tuple(beginning_of_text(tokenizer)))


def prompt_ids(
    tokenizer: Any, example: Example, limit: int | None = None, question_room: int = 0, frame: Frame | None = None
) -> PromptIds:
    """A prompt of at most `limit` tokens, made so by cutting the middle out of its document.

    Args:
        tokenizer: of transformers.
        example: what to ask.
        limit: tokens of the prompt at most; None cuts nothing.
        question_room: tokens to keep free for the question if it is shorter. With the longest question of a document
            here, all of its questions get the same context.
        frame: what the prompt stands in; by default the BOS token, where the tokenizer puts one before every text.

    Raises:
        LocretError: instructions and question alone are longer.
    """
    frame = plain_frame(tokenizer) if frame is None else frame
    question = question_ids(tokenizer, example, frame)
    return PromptIds(context_ids(tokenizer, example, frame, limit, max(len(question), question_room)), question)


def question_ids(tokenizer: Any, example: Example, frame: Frame) -> tuple[int, ...]:
    """What follows the document: the question, and the beginning of the answer; the question ends no turn itself."""
    return tuple(said_ids(tokenizer, example.question, frame.tail + example.answer_prefix))


def context_ids(
    tokenizer: Any, example: Example, frame: Frame, limit: int | None = None, question_room: int = 0
) -> tuple[int, ...]:
    """Everything before the question; with `question_room` tokens behind it, it has at most `limit`.

    Names of control tokens in the document, or in what stands before it, are text.

    Raises:
        LocretError: instructions and question alone are longer.
    """
    before = [*frame.head, *text_ids(tokenizer, example.before)]
    document = text_ids(tokenizer, example.document)
    if limit is not None:
        room = limit - len(before) - question_room
        if room < 0:
            raise LocretError(
                f"example {example.uid} does not fit {limit} tokens: its instructions and question alone have "
                f"{limit - room}: give a higher limit"
            )
        document = cut_middle(document, room)
    return (*before, *document)


def whole_prompt_ids(tokenizer: Any, example: Example, limit: int | None = None) -> list[int]:
    """A prompt of at most `limit` tokens as the benchmarks' authors make it: the middle of everything is cut out."""
    ids = list(tokenizer(example.prompt)["input_ids"])
    return ids if limit is None else cut_middle(ids, limit)
