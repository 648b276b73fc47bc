"""Text out of a growing list of tokens, piece by piece, without cutting a character in two."""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\ufffd"  # what an unfinished UTF-8 sequence decodes to


class Detokenizer:
    """Decodes tokens as they come.

    Only a short window is decoded again at every token: from the last piece that was complete.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.window = 0  # first token of the decoded window
        self.emitted = 0  # first token whose text has not been given out

    def push(self, token: int) -> str:
        """Add a token; returns the text that is complete now, "" inside a character."""
        self.ids.append(token)
        before = self._decode(self.window, self.emitted)
        text = self._decode(self.window, len(self.ids))
        if text.endswith(REPLACEMENT) or len(text) <= len(before):
            return ""
        self.window, self.emitted = self.emitted, len(self.ids)
        return text[len(before) :]

    def flush(self) -> str:
        """What is left at the end, unfinished characters included."""
        rest = self._decode(self.window, len(self.ids))[len(self._decode(self.window, self.emitted)) :]
        self.window = self.emitted = len(self.ids)
        return rest

    def _decode(self, begin: int, end: int) -> str:
        text: str = self.tokenizer.decode(self.ids[begin:end], skip_special_tokens=True)
        return text
