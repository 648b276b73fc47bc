"""What prompts stand in: nothing but the BOS token, or the tokenizer's chat template."""

from __future__ import annotations

from typing import Any

from locret.errors import LocretError
from locret.eval.benchmarks.truncation import Frame, plain_frame
from locret.eval.haystack import plain_ids

MARK = "[[the-document-stands-here]]"  # passes through any template unchanged


def frame_of(tokenizer: Any, chat: bool) -> Frame:
    """The frame of all prompts of a cell.

    Raises:
        LocretError: a chat is wanted and the tokenizer has no template, or one that cannot be cut open.
    """
    if not chat:
        return plain_frame(tokenizer)
    if not getattr(tokenizer, "chat_template", None):
        raise LocretError("--chat needs a tokenizer with a chat template and this model's has none: leave out --chat")
    message = {"role": "user", "content": MARK}
    text = tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    head, mark, tail = text.partition(MARK)
    if not mark:
        raise LocretError("the tokenizer's chat template does not repeat a message as it is: leave out --chat")
    return Frame(tuple(plain_ids(tokenizer, head)), tail)
