"""What prompts stand in: nothing but the BOS token, or the tokenizer's chat template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.truncation import Frame, plain_frame
from locret.eval.haystack import plain_ids
from locret.models.chat import rendered

WITHOUT = "leave out --chat"
MARK = "[[the-document-stands-here]]"  # passes through any template unchanged


def frame_of(tokenizer: Any, chat: bool) -> Frame:
    """The frame of all prompts of a cell.

    Raises:
        LocretError: a chat is wanted and the tokenizer has no template, or one that refuses it or cannot be cut open.
    """
    if not chat:
        return plain_frame(tokenizer)
    message = {"role": "user", "content": MARK}
    head, mark, tail = rendered(tokenizer, [message], WITHOUT).partition(MARK)
    if not mark:
        raise LocretError("the tokenizer's chat template does not repeat a message as it is: leave out --chat")
    return Frame(tuple(plain_ids(tokenizer, head)), tail)


@dataclass(frozen=True, slots=True)
class Turns:
    """What several questions and answers stand in, all in one conversation.

    Attributes:
        head: token ids before everything: the BOS token, or the beginning of a chat.
        question: text before the first question; it follows the document.
        again: text between an answer and the next question.
        answer: text between a question and its answer.
        lead: text that an answer begins with.
    """

    head: tuple[int, ...]
    question: str
    again: str
    answer: str
    lead: str

    def asked(self, question: str, first: bool) -> str:
        """A question with what is around it, up to its answer."""
        return (self.question if first else self.again) + question + self.answer


PLAIN_TURNS = {"question": "\nQuestion: ", "again": "\nQuestion: ", "answer": " Answer:", "lead": " "}


def turns_of(tokenizer: Any, chat: bool) -> Turns:
    """The turns of a conversation: of the tokenizer's chat template, or of plain questions and answers.

    Raises:
        LocretError: a chat is wanted and the tokenizer has no template, or one that refuses it or cannot be cut open.
    """
    frame = frame_of(tokenizer, chat)
    if not chat:
        return Turns(frame.head, **PLAIN_TURNS)
    said = [{"role": role, "content": MARK} for role in ("user", "assistant", "user")]
    parts = rendered(tokenizer, said, WITHOUT).split(MARK)
    if len(parts) != len(said) + 1:
        raise LocretError("the tokenizer's chat template does not repeat messages as they are: leave out --chat")
    return Turns(frame.head, question="\n\n", again=parts[2], answer=frame.tail, lead="")
