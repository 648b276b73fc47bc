"""What stands around a document: the task's instruction before it, the question after it, the answer's beginning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """The fixed words of a task, as RULER publishes them.

    Attributes:
        before: stands before the document, as it is.
        after: stands behind it; fields such as ``{query}`` are open.
        answer_prefix: beginning of the answer that the model is given; fields are open.
    """

    before: str
    after: str
    answer_prefix: str

    def input(self, document: str, **fields: object) -> str:
        """The prompt without the answer's beginning."""
        return self.before + document + self.after.format(**fields)

    def split(self, text: str) -> tuple[str, str, str]:
        """Cut an input into what stands before the document, the document, and the question.

        A worked example counts to what stands before. An input in other words is all document.
        """
        begin = text.rfind(self.before)
        end = text.rfind(self.after.partition("{")[0])
        if begin < 0 or end < begin + len(self.before):
            return "", text, ""
        return text[: begin + len(self.before)], text[begin + len(self.before) : end], text[end:]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question of a task: `input`, the beginning of the answer, and what the answer must contain."""

    input: str
    answer_prefix: str
    outputs: tuple[str, ...]

    @property
    def text(self) -> str:
        """All that the model reads."""
        return self.input + self.answer_prefix
