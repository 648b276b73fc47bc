"""Chat templates: chats as text, the ids of a whole chat, and where parts of its message lie among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from locret.errors import LocretError, first_line
from locret.models.tokens import Stretch, Tokens, tokenise


def rendered(
    tokenizer: Any, messages: Sequence[Mapping[str, str]], remedy: str, add_generation_prompt: bool = True
) -> str:
    """A chat in the tokenizer's template, as text.

    Args:
        tokenizer: of a model with a chat template.
        messages: roles and contents.
        remedy: what a user can do who meets a template that refuses them.
        add_generation_prompt: whether the beginning of the model's answer stands behind them.

    Raises:
        LocretError: there is no chat template, it refuses the messages, as some do with a system's, or it is damaged.
    """
    if not tokenizer.chat_template:
        raise LocretError("--chat needs a tokenizer with a chat template and this model's has none: leave out --chat")
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except Exception as error:  # a template is somebody's program, and raises what it likes
        raise LocretError(f"the chat template refuses the message ({first_line(error)}): {remedy}") from error
    return text


@dataclass(frozen=True, slots=True)
class Message:
    """A user's message, the first of a chat in which the model is to answer.

    Attributes:
        tokenizer: of a model with a chat template.
        content: the message's text.
    """

    tokenizer: Any
    content: str

    def tokens(self, places: Sequence[int] = ()) -> Tokens:
        """The ids of the whole chat, those of `apply_chat_template`, and its cuts at some places of the message.

        Only where the message holds names of control tokens the ids are others: there such a name is the message's
        text and ends no turn.

        Args:
            places: offsets in characters in `content`, before a character that is not blank.

        Raises:
            LocretError: there is no chat template, it refuses the message, or it does not repeat it as it is.
        """
        text = self._rendered(self.content)
        return tokenise(self.tokenizer, self._stretches(text), [self._place(text, place) for place in places])

    def _rendered(self, content: str) -> str:
        messages = [{"role": "user", "content": content}]
        return rendered(self.tokenizer, messages, "leave the template out (--no-chat)")

    def _place(self, text: str, place: int) -> int:
        """Where `place` of the content is in the rendered text.

        It is not searched for by what stands there, which the template or the document may hold, too: a mark that
        they do not hold is put there, and without the mark the rendering must be the same.
        """
        mark = next(mark for mark in map("q{}border".format, count()) if mark not in text and mark not in self.content)
        marked = self._rendered(f"{self.content[:place]}{mark}{self.content[place:]}")
        before, _, after = marked.partition(mark)
        if before + after != text:
            raise LocretError(
                "the chat template does not repeat a message as it is, so its question cannot be told from its "
                "document: leave the template out (--no-chat)"
            )
        return len(before)

    def _stretches(self, text: str) -> list[Stretch]:
        """The rendered text as one stretch, or in three if names of control tokens in the message are to be text.

        The middle one reaches from the template's last control token before the message to its first one after it:
        there tokenizers part a text before they do anything else.
        """
        names = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        if not any(name in self.content for name in names):
            return [Stretch(text)]
        control = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
        first = self._place(text, len(self.content) - len(self.content.lstrip()))
        last = self._place(text, len(self.content.rstrip()))
        begin = max((found.end() for found in control.finditer(text[:first])), default=0)
        following = control.search(text, last)
        end = following.start() if following else len(text)
        return [Stretch(text[:begin]), Stretch(text[begin:end], literal=True), Stretch(text[end:])]
