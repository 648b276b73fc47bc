"""Prompts from files, checked before any weights are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.cli.questions import as_text, without_answer
from locret.errors import LocretError
from locret.models.chat import Message
from locret.models.tokens import Stretch, Tokens, tokenise
from locret.texts import parse_json, read_text


@dataclass(frozen=True, slots=True)
class DocumentPrompt:
    """A document and a question about it.

    Attributes:
        document, question: as the user gave them.
        query_first: the question also stands before the document.
    """

    document: str
    question: str
    query_first: bool = False

    def turns(self, tokenizer: Any, chat: bool | None = None) -> list[list[int]]:
        """Token ids of the document, then of the question, so that no cut of the document knows the question.

        Together they are the ids of the whole prompt, tokenised at once; a token that straddles the border goes with
        the question. Names of control tokens in document and question are text.

        Args:
            tokenizer: the model's.
            chat: whether both stand in its chat template; None: if it has one.

        Raises:
            LocretError: it is to have a chat template and has none, or one that cannot be cut.
        """
        tokens = self._tokens(tokenizer, chat)
        return [tokens.ids[: tokens.cuts[1]], tokens.ids[tokens.cuts[1] :]]

    def question_tokens(self, tokenizer: Any, chat: bool | None = None) -> int:
        """How many of the first tokens belong to the question, what stands before it included; 0 if it comes last."""
        return self._tokens(tokenizer, chat).cuts[0] if self.query_first else 0

    def _tokens(self, tokenizer: Any, chat: bool | None) -> Tokens:
        """The whole prompt, with cuts where the document begins and where the question behind it does."""
        if chat or (chat is None and tokenizer.chat_template):
            before = f"{self.question.strip()}\n\n" if self.query_first else ""
            message = f"{before}{self.document}\n\n{self.question}"
            cuts = (message[len(before) :].lstrip(), self.question.lstrip())  # a template may strip blanks at the ends
            return Message(tokenizer, message).tokens([len(message) - len(after) for after in cuts])
        question = as_text(self.question)
        before = f"{without_answer(question)}\n" if self.query_first else ""
        places = [len(before), len(before) + len(self.document)]
        whole = Stretch(f"{before}{self.document}\n{question}", literal=True)
        return tokenise(tokenizer, [whole], places, add_special_tokens=True)


@dataclass(frozen=True, slots=True)
class TextPrompt:
    """A prompt to be read as it stands."""

    text: str

    def turns(self, tokenizer: Any, chat: bool | None = None) -> list[list[int]]:
        """Token ids, with the special tokens the tokenizer puts in front, or in its chat template if that is asked for.

        Raises:
            LocretError: it has none.
        """
        if chat:
            return [Message(tokenizer, self.text).tokens().ids]
        return [list(tokenizer(self.text)["input_ids"])]

    def question_tokens(self, tokenizer: Any, chat: bool | None = None) -> int:
        """None: what is a question in it is not known."""
        return 0


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt of token ids.

    Attributes:
        ids: as they stand in the file.
        source: the file, for messages.
    """

    ids: list[int]
    source: Path

    def turns(self, tokenizer: Any, chat: bool | None = None) -> list[list[int]]:
        """The ids; they are not text that a chat template could hold.

        Raises:
            LocretError: an id is outside the vocabulary.
        """
        size = len(tokenizer)
        for index, token in enumerate(self.ids):
            if not 0 <= token < size:
                raise LocretError(
                    f"{self.source}: token id {token} at index {index} is outside the vocabulary of {size}: "
                    f"give ids from 0 to {size - 1}"
                )
        return [self.ids]

    def question_tokens(self, tokenizer: Any, chat: bool | None = None) -> int:
        """None: what is a question in them is not known."""
        return 0


Prompt = DocumentPrompt | TextPrompt | TokenPrompt


def read_prompt(path: Path) -> str:
    """The text of a file, plain or gzipped.

    Raises:
        LocretError: it cannot be read, is not UTF-8 text, or there is nothing in it.
    """
    text = read_text(path)
    if not text.strip():
        raise LocretError(f"{path} is empty: a prompt needs at least one character of text")
    return text


def read_token_ids(path: Path) -> TokenPrompt:
    """Token ids from a file that holds a JSON list of them.

    Raises:
        LocretError: it does not, or cannot be read.
    """
    remedy = "give a JSON list of token ids such as [1, 2, 3]"
    try:
        ids = parse_json(read_prompt(path), str(path))
    except LocretError as error:
        raise LocretError(f"{error}: {remedy}") from None
    if not isinstance(ids, list):
        raise LocretError(f"{path} holds a JSON {type(ids).__name__}: {remedy}")
    for index, token in enumerate(ids):
        if type(token) is not int:  # a bool is an int to isinstance
            raise LocretError(f"{path} holds {json.dumps(token)[:40]} at index {index}: {remedy}")
    if not ids:
        raise LocretError(f"{path} holds an empty list: {remedy}")
    return TokenPrompt(ids, path)
