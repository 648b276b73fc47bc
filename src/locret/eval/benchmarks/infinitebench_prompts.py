"""InfiniteBench's prompts for open models: raw text that the answer goes on from, without a chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import Record
from locret.eval.benchmarks.words import LETTERS

CALL = re.compile(r"(func_\d+)\(-?\d+\)")
SOUGHT = re.compile(r"The (.+) of")

HIDDEN = "There is an important info hidden inside a lot of irrelevant text."
OPTIONS = "\nA. {A}\nB. {B}\nC. {C}\nD. {D}\n\n"
MASKED = (
    'Below is a dialogue script where one random occurrence of a character name is replaced with "$$MASK$$", '
    "and you should try to guess who that character is.\n\n"
)
EXPRESSIONS = (
    "Let us calculate the intermediate values of an expression.\n\n"
    "Expression: 1 + 3 + 4\nValues: [1, 4, 8]\n\n"
    "Expression: 8 - 3 + 2 - 4\nValues: [8, 5, 7, 3]\n\n"
    "Expression: "
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt around a document; names in braces are filled from the record.

    Attributes:
        before: what stands before the document.
        question: what follows it.
        answer_prefix: beginning of the answer.
    """

    before: str
    question: str
    answer_prefix: str = ""

    def fill(self, fields: Mapping[str, str]) -> Prompt:
        """The same without open names."""
        parts = (self.before, self.question, self.answer_prefix)
        return Prompt(*(part.format_map(fields) for part in parts))


PROMPTS = {
    "passkey": Prompt(
        f"{HIDDEN} Find it and memorize it. I will quiz you about the important information.\n\n",
        "\n\n{input}\n\n",
        "The pass key is",
    ),
    "number_string": Prompt(
        f"{HIDDEN} Find it. I will quiz you about the important information there.\n\n",
        "\n\n{input}\n\n",
        "The sequence of digits is",
    ),
    "kv_retrieval": Prompt(
        "Extract the value corresponding to the specified key in the JSON object below.\n\n", "\n\n{input}"
    ),
    "longbook_sum_eng": Prompt("Summarize the book below.\n\n", "\n\n", "Summary:"),
    "longbook_choice_eng": Prompt(
        "Read the book and answer the question.\n\n",
        "\n\nQuestion: {input}" + OPTIONS,
        "The letter of the correct answer is",
    ),
    "longbook_qa_eng": Prompt(
        "Read the book and answer the question. Be very concise in your answer.\n\n",
        "\n\nQuestion: {input}\n",
        "Answer:",
    ),
    "longbook_qa_chn": Prompt("阅读以下书籍然后回答问题。\n\n", "\n\n问题\uff1a{input}\n", "答案\uff1a"),
    "longdialogue_qa_eng": Prompt(MASKED, "\n\n", "The name that has been replaced with $$MASK$$ is likely"),
    "math_find": Prompt("What is the {sought} in the following list?\n\n", "\n\n{input}"),
    "math_calc": Prompt(EXPRESSIONS, "\n", "Values:"),
    "code_run": Prompt(
        "There is a function called {function} in the following Python code.\n\n",
        "\n\nPlease compute the exact value of {call}. ",
        "The value of {call} is",
    ),
    "code_debug": Prompt(
        "Following is a Python code where exactly one of the functions/methods has a deliberate error that makes it "
        "crash.\n\n",
        "\n\nOptions:" + OPTIONS,
        "The correct option is:",
    ),
}


def plain_fields(record: Record) -> dict[str, str]:
    """What most prompts are filled with: the question."""
    return {"input": record.text("input")}


def option_fields(record: Record) -> dict[str, str]:
    """The question and its four options, by letter."""
    options = record.texts("options")
    if len(options) != len(LETTERS):
        raise LocretError(f"{record.place} has {len(options)} options: there must be four")
    return {**plain_fields(record), **dict(zip(LETTERS, options, strict=True))}


def sought_fields(record: Record) -> dict[str, str]:
    """The question, and which number of the list it asks for."""
    asked = record.text("input")
    found = SOUGHT.search(asked)
    if found is None:
        raise LocretError(f"{record.place} does not ask for a number: 'input' must hold 'The ... number of'")
    return {"input": asked, "sought": found[1].lower()}


def call_fields(record: Record) -> dict[str, str]:
    """The function call whose value is asked for, and the function's name."""
    found = CALL.search(record.text("input"))
    if found is None:
        raise LocretError(f"{record.place} does not ask for a call: 'input' must hold one such as func_12(-3)")
    return {"call": found[0], "function": found[1]}
