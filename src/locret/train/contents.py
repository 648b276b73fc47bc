"""What a training record says, and how it becomes token ids."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from locret.errors import LocretError
from locret.models.chat import Chat, rendered, takes_system
from locret.models.tokens import Stretch, beginning_of_text, tokenise

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

    Context and first question are tokenised at once, as a prompt is; what follows one by one, as the model goes on from
    what it has read.

    Attributes:
        context: what is asked about; it may be cut to fit.
        turns: questions and answers.
        literal: whether names of control tokens (`</s>`, `<|im_end|>`) are text like any other.
    """

    context: str
    turns: tuple[tuple[str, str], ...]
    literal: bool = True

    def encode(self, tokenizer: Any) -> Encoded:
        """Each text's tokens, one behind the other; the context may be cut."""
        (question, answer), *more = self.turns
        asked = Stretch(self.context + question, self.literal)
        prompt = tokenise(tokenizer, [asked], [len(self.context)])
        leading = beginning_of_text(tokenizer)
        ids, spans = leading + prompt.ids, []
        for text, answers in [(answer, True), *((text, i == 1) for turn in more for i, text in enumerate(turn))]:
            start = len(ids)
            ids += tokenise(tokenizer, [Stretch(text, self.literal)]).ids
            if answers:
                spans.append((start, len(ids)))
        return Encoded(ids, spans, len(leading) + prompt.cuts[0])


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns between a person and a model; the first person's turn holds the context."""

    system: str
    turns: tuple[tuple[str, str], ...]

    def encode(self, tokenizer: Any) -> Encoded:
        """The tokens of the templated turns; everything before the first answer may be cut."""
        encoded = self._templated(tokenizer) if tokenizer.chat_template else self._plain().encode(tokenizer)
        return Encoded(encoded.ids, encoded.spans, encoded.spans[0][0])

    def _plain(self) -> Verbatim:
        """Questions and answers, each on a line of its own; an answer is the bare text."""
        lead = f"{self.system}\n" if self.system else ""
        (question, answer), *more = self.turns
        return Verbatim(lead, ((f"{question}\n", answer), *((f"\n{question}\n", answer) for question, answer in more)))

    def _templated(self, tokenizer: Any) -> Encoded:
        """The whole chat's ids; an answer is what the model has to say, its end of turn too.

        Raises:
            LocretError: the template refuses the turns, or what it makes of them cannot be told apart.
        """
        messages, texts = [], []
        lead = self.system
        if lead and takes_system(tokenizer):
            messages, lead = [{"role": "system", "content": lead}], ""
        for question, answer in self.turns:
            messages.append({"role": "user", "content": f"{lead}\n\n{question}" if lead else question})
            texts.append(rendered(tokenizer, messages, OTHERWISE))
            messages.append({"role": "assistant", "content": answer})
            texts.append(rendered(tokenizer, messages, OTHERWISE, add_generation_prompt=False))
            lead = ""
        if not all(longer.startswith(shorter) for shorter, longer in pairwise(texts)):
            raise LocretError(
                "the tokenizer's chat template rewrites earlier turns, so that answers cannot be "
                "found in its output: give one question a record, or the `prompt`/`answer` form"
            )
        chat = Chat(tokenizer, tuple(messages), OTHERWISE, asks=False)
        tokens = chat.tokens(texts[-1], [len(text) for text in texts])
        return Encoded(tokens.ids, list(zip(tokens.cuts[::2], tokens.cuts[1::2], strict=True)), tokens.cuts[0])


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens that were made elsewhere."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def encode(self, tokenizer: Any) -> Encoded:
        """The tokens as they are; everything before the first answer may be cut."""
        return Encoded(list(self.ids), list(self.spans), self.spans[0][0])
