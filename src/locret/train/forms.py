"""The shapes a training record may have. A record is recognised by the key it holds (`recognise`):

- `conversations` (or `messages`): turns with `from`/`value` or `role`/`content`; people are `human`
  or `user`, models `gpt` or `assistant`, and one `system` turn may lead. Goes through the
  tokenizer's chat template where it has one (what a system says to the beginning of the first turn where the template
  takes no system's), else the turns are joined by line ends.
- `questions`: a `context` and a list of `question`/`answer`, all taken verbatim, one behind the
  other: blanks between them belong into the texts.
- `answer` with `prompt`, or `output` with `instruction` (and `input`): one question, verbatim. Only in `prompt`
  and its answer names of control tokens (`<|im_end|>`) stand for the tokens: a prompt is what the model reads.
- `input_ids` with `answer_spans`, a list of `[start, end)`: tokens as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from locret.errors import LocretError
from locret.train.contents import Content, Conversation, Tokens, Verbatim

PERSON, MODEL, SYSTEM = {"human", "user"}, {"gpt", "assistant", "chatgpt"}, {"system"}


def _conversation(turns: Any) -> Conversation:
    said = [_turn(turn) for turn in _list(turns, "conversations")]
    system = said.pop(0)[1] if said and said[0][0] in SYSTEM else ""
    pairs = []
    for person, model in zip(said[::2], said[1::2], strict=False):
        if person[0] not in PERSON or model[0] not in MODEL:
            raise LocretError("the turns do not alternate between human and gpt, a human first")
        pairs.append((person[1], model[1]))
    if not pairs or len(said) % 2:
        raise LocretError("every human turn needs a gpt turn behind it, and there must be one")
    return Conversation(system, tuple(pairs))


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise LocretError("a turn is not an object with `from` and `value`")
    role = "from" if "from" in turn else "role"
    return _text(turn, role), _text(turn, "value" if "value" in turn else "content")


def _questions(record: dict[str, Any]) -> Verbatim:
    turns = []
    for entry in _list(record["questions"], "questions"):
        if not isinstance(entry, dict):
            raise LocretError("an entry of `questions` is not an object")
        turns.append((_text(entry, "question"), _text(entry, "answer")))
    return Verbatim(_text(record, "context"), tuple(turns))


def _instruction(record: dict[str, Any]) -> Verbatim:
    task, given = _text(record, "instruction"), record.get("input") or ""
    prompt = f"{task}\n{given}\n" if given else f"{task}\n"
    return Verbatim(prompt, (("", _text(record, "output")),))


def _tokens(record: dict[str, Any]) -> Tokens:
    ids = _list(record["input_ids"], "input_ids")
    if not all(type(token) is int and token >= 0 for token in ids):  # a bool is an int to isinstance
        raise LocretError("`input_ids` is not a list of token ids")
    spans, end = [], 1
    for span in _list(record.get("answer_spans"), "answer_spans"):
        fits = isinstance(span, list) and len(span) == 2 and all(type(x) is int for x in span)
        if not fits or not end <= span[0] < span[1] <= len(ids):
            raise LocretError(f"answer span {span} is not [start, end) within 1..{len(ids)}, after the one before")
        spans.append((span[0], span[1]))
        end = span[1]
    return Tokens(tuple(ids), tuple(spans))


Parse = Callable[[dict[str, Any]], Content]

FORMS: dict[str, Parse] = {
    "conversations": lambda record: _conversation(record["conversations"]),
    "messages": lambda record: _conversation(record["messages"]),
    "questions": _questions,
    "input_ids": _tokens,
    "prompt": lambda record: Verbatim(_text(record, "prompt"), (("", _text(record, "answer")),), literal=False),
    "instruction": _instruction,
}


def recognise(record: Any) -> Content:
    """Parse one record by the first key of `FORMS` that it has.

    Raises:
        LocretError: it has none of them, or the fields that belong to it are wrong.
    """
    if isinstance(record, dict):
        for key, parse in FORMS.items():
            if key in record:
                return parse(record)
    raise LocretError(f"the record has none of the keys {', '.join(FORMS)}")


def _text(record: dict[str, Any], key: str) -> str:
    text = record.get(key)
    if not isinstance(text, str) or not text:
        raise LocretError(f"`{key}` is missing, empty or not a text")
    return text


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise LocretError(f"`{key}` is missing, empty or not a list")
    return value
