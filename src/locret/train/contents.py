"""What a training record says, and how it becomes token ids."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from locret.errors import LocretError
from locret.models.chat import rendered
from locret.models.tokens import beginning_of_text

OTHERWISE = "leave out what it refuses, or give the `prompt`/`answer` form"


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record as tokens.

    Attributes:
        ids: all token ids.
        spans: the answers, as `[start, end)`, ascending.
        context: length of the leading part whose middle may be cut out to fit.
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    context: int


class Content(Protocol):
    """What a record says, in one of the shapes."""

    def encode(self, tokenizer: Any) -> Encoded:
        """Token ids of the record."""
        ...


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Texts put one behind the other as they are: context, question, answer, question, answer ...

    Each is tokenised alone, as at inference, where the model goes on from a finished prompt.
    """

    context: str
    turns: tuple[tuple[str, str], ...]

    def encode(self, tokenizer: Any) -> Encoded:
        """Each text's tokens, one behind the other; the context may be cut."""
        pieces = [self.context, *(text for turn in self.turns for text in turn)]
        return encode_pieces(pieces, tokenizer, leading=beginning_of_text(tokenizer))


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns between a person and a model; the first person's turn holds the context."""

    system: str
    turns: tuple[tuple[str, str], ...]

    def encode(self, tokenizer: Any) -> Encoded:
        """The tokens of the templated turns; everything before the first answer may be cut."""
        if not tokenizer.chat_template:
            lead = f"{self.system}\n" if self.system else ""
            texts, leading = self._plain(), beginning_of_text(tokenizer)
        else:
            lead, texts, leading = "", self._templated(tokenizer), []
        encoded = encode_pieces([lead, *texts], tokenizer, leading)
        return Encoded(encoded.ids, encoded.spans, encoded.spans[0][0])

    def _plain(self) -> list[str]:
        """Questions and answers, each on a line of its own; an answer is the bare text."""
        texts = [text for question, answer in self.turns for text in (f"\n{question}\n", answer)]
        return [texts[0].removeprefix("\n"), *texts[1:]]

    def _templated(self, tokenizer: Any) -> list[str]:
        """What the template adds for each question and each answer."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        texts = [""]
        for question, answer in self.turns:
            messages.append({"role": "user", "content": question})
            texts.append(rendered(tokenizer, messages, OTHERWISE))
            messages.append({"role": "assistant", "content": answer})
            texts.append(rendered(tokenizer, messages, OTHERWISE, add_generation_prompt=False))
        if not all(longer.startswith(shorter) for shorter, longer in pairwise(texts)):
            raise LocretError(
                "the tokenizer's chat template rewrites earlier turns, so that answers cannot be "
                "found in its output: give one question a record, or the `prompt`/`answer` form"
            )
        return [longer[len(shorter) :] for shorter, longer in pairwise(texts)]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that were made elsewhere."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def encode(self, tokenizer: Any) -> Encoded:
        """The tokens as they are; everything before the first answer may be cut."""
        return Encoded(list(self.ids), list(self.spans), self.spans[0][0])


def encode_pieces(pieces: list[str], tokenizer: Any, leading: list[int]) -> Encoded:
    """Tokenise context, question, answer, question, answer ... each alone, and join them."""
    ids, spans, context = list(leading), [], 0
    for index, piece in enumerate(pieces):
        start = len(ids)
        ids += tokenizer(piece, add_special_tokens=False).input_ids
        if index == 0:
            context = len(ids)
        elif index % 2 == 0:
            spans.append((start, len(ids)))
    return Encoded(ids, spans, context)
