"""Prompts from files, checked before any weights are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locret.cli.questions import as_text, without_answer
from locret.errors import LocretError


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
        """Token ids of the document, then of the question, so that the question is never part of what is cut.

        Args:
            tokenizer: the model's.
            chat: whether both stand in its chat template; None: if it has one.

        Raises:
            LocretError: it is to have a chat template and has none.
        """
        first, document, question = self._parts(tokenizer, chat)
        return [[*first, *document], question]

    def question_tokens(self, tokenizer: Any, chat: bool | None = None) -> int:
        """How many of the first tokens belong to the question, what stands before it included; 0 if it comes last."""
        return len(self._parts(tokenizer, chat)[0]) if self.query_first else 0

    def _parts(self, tokenizer: Any, chat: bool | None) -> tuple[list[int], list[int], list[int]]:
        """Token ids of the question in front (none without), of the document and of the question behind it."""
        if chat or (chat is None and getattr(tokenizer, "chat_template", None)):
            return self._in_chat(tokenizer)
        question = _ids(tokenizer, f"\n{as_text(self.question)}")
        if not self.query_first:
            return [], list(tokenizer(self.document)["input_ids"]), question
        first = tokenizer(f"{without_answer(as_text(self.question))}\n")["input_ids"]
        return list(first), _ids(tokenizer, self.document), question

    def _in_chat(self, tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
        question = self.question.strip()
        before = f"{question}\n\n" if self.query_first else ""
        text = _as_message(tokenizer, f"{before}{self.document}\n\n{self.question}")
        cut = text.rfind(question)
        begin = text.find(before) + len(before) if before else 0
        return (
            _ids(tokenizer, text[:begin]) if before else [],
            _ids(tokenizer, text[begin:cut]),
            _ids(tokenizer, text[cut:]),
        )


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
            return [_ids(tokenizer, _as_message(tokenizer, self.text))]
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


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        LocretError: it is not UTF-8 text, or there is nothing in it; the message says where and what to do.
        OSError: it cannot be read.
    """
    if not path.exists():
        raise LocretError(f"{path} does not exist: check the path")
    if path.is_dir():
        raise LocretError(f"{path} is a folder: give a text file")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LocretError(
            f"{path} is not text: byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8: "
            "convert it to UTF-8 text first (iconv, pdftotext)"
        ) from None
    if "\0" in text:
        raise LocretError(f"{path} is not text: zero byte at offset {data.index(0)}: convert it to UTF-8 text first")
    if not text.strip():
        raise LocretError(f"{path} is empty: a prompt needs at least one character of text")
    return text


def read_token_ids(path: Path) -> TokenPrompt:
    """Token ids from a file that holds a JSON list of them.

    Raises:
        LocretError: it does not.
        OSError: it cannot be read.
    """
    remedy = "give a JSON list of token ids such as [1, 2, 3]"
    try:
        ids = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise LocretError(f"{path} is not JSON (line {error.lineno}, {error.msg}): {remedy}") from None
    if not isinstance(ids, list):
        raise LocretError(f"{path} holds a JSON {type(ids).__name__}: {remedy}")
    for index, token in enumerate(ids):
        if type(token) is not int:  # a bool is an int to isinstance
            raise LocretError(f"{path} holds {json.dumps(token)[:40]} at index {index}: {remedy}")
    if not ids:
        raise LocretError(f"{path} holds an empty list: {remedy}")
    return TokenPrompt(ids, path)


def _as_message(tokenizer: Any, content: str) -> str:
    """The text of a conversation that begins with this message and in which the model is to answer."""
    if not getattr(tokenizer, "chat_template", None):
        raise LocretError("--chat needs a chat template and this model's tokenizer has none: leave --chat out")
    message = {"role": "user", "content": content}
    text: str = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
