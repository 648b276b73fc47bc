"""Chat templates: chats as text, the ids of a whole chat, and where parts of its message lie among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


def takes_system(tokenizer: Any) -> bool:
    """Whether a chat template takes a system's message before a user's; those of Gemma 2 and Mistral v0.1 raise."""
    try:
        rendered(tokenizer, [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "")
    except LocretError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Chat:
    """Messages in a tokenizer's chat template.

    Attributes:
        tokenizer: of a model with a chat template.
        messages: roles and contents.
        remedy: what a user can do who meets a template that refuses them.
        asks: whether the beginning of the model's answer stands behind them.
    """

    tokenizer: Any
    messages: tuple[Mapping[str, str], ...]
    remedy: str
    asks: bool = True

    def text(self) -> str:
        """The rendered chat.

        Raises:
            LocretError: there is no chat template, or it refuses the messages.
        """
        return rendered(self.tokenizer, self.messages, self.remedy, self.asks)

    def place(self, text: str, index: int, offset: int) -> int:
        """Where a character of the content of message `index` is in `text`, the rendered chat.

        It is not searched for by what stands there, which the template or a content may hold, too: a mark that they do
        not hold is put there, and without the mark the rendering must be the same.

        Raises:
            LocretError: the template does not repeat the message as it is.
        """
        content = self.messages[index]["content"]
        mark = next(mark for mark in map("q{}border".format, count()) if mark not in text and mark not in content)
        there = {**self.messages[index], "content": f"{content[:offset]}{mark}{content[offset:]}"}
        marked = replace(self, messages=(*self.messages[:index], there, *self.messages[index + 1 :])).text()
        before, _, after = marked.partition(mark)
        if before + after != text:
            raise LocretError(
                f"the chat template does not repeat a message as it is, so that its parts cannot be told: {self.remedy}"
            )
        return len(before)

    def tokens(self, text: str, places: Sequence[int] = ()) -> Tokens:
        """The ids of the whole chat, those of `apply_chat_template`, and its cuts at some places of `text`, its text.

        Only where a content holds names of control tokens the ids are others: there such a name is text and ends no
        turn.
        """
        return tokenise(self.tokenizer, self._stretches(text), places)

    def _stretches(self, text: str) -> list[Stretch]:
        """The rendered text in one stretch, or in several if names of control tokens in contents are to be text.

        Those reach from the template's last control token before a content to its first one after it: there
        tokenizers part a text before they do anything else.
        """
        names = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        control = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")
        parts, done = [], 0
        for index, content in enumerate(message["content"] for message in self.messages):
            if not control.search(content):
                continue
            first = self.place(text, index, len(content) - len(content.lstrip()))
            last = self.place(text, index, len(content.rstrip()))
            begin = max((found.end() for found in control.finditer(text, done, first)), default=done)
            following = control.search(text, last)
            end = following.start() if following else len(text)
            parts += [Stretch(text[done:begin]), Stretch(text[begin:end], literal=True)]
            done = end
        return [*parts, Stretch(text[done:])]


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
        """The ids of the whole chat, and its cuts at some places of the message: see `Chat`.

        Args:
            places: offsets in characters in `content`, before a character that is not blank.

        Raises:
            LocretError: there is no chat template, it refuses the message, or it does not repeat it as it is.
        """
        chat = Chat(self.tokenizer, ({"role": "user", "content": self.content},), "leave the template out (--no-chat)")
        text = chat.text()
        return chat.tokens(text, [chat.place(text, 0, place) for place in places])
