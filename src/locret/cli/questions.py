"""How a question is put to a model that only goes on with text."""

from __future__ import annotations

import re

from locret.eval.needles import Template, templates


def as_text(question: str) -> str:
    """The question with a cue for the answer.

    A question that has "Answer:" in it stands as it is. One of the forms that the built-in model was trained on gets
    the beginning of its answer, without which that model cannot go on; any other just gets "Answer:".

    >>> as_text("What is the entry of Apple?")
    'Question: What is the entry of Apple? Answer: Entry Apple'
    """
    question = question.strip()
    if "Answer:" in question:
        return question
    begun = (_begun(template, question) for template in templates())
    return next(filter(None, begun), f"Question: {question} Answer:")


def without_answer(text: str) -> str:
    """The question in a text of `as_text`, without the beginning of its answer.

    >>> without_answer("Question: What is the entry of Apple? Answer: Entry Apple")
    'Question: What is the entry of Apple?'
    """
    return text.rpartition("Answer:")[0].rstrip() or text


def _begun(template: Template, question: str) -> str | None:
    """The question as `template` puts it; None if it is of another form."""
    form = re.escape(template.asked).replace(re.escape("{key}"), r"(?P<key>\w+)")
    match = re.fullmatch(form, question)
    return template.question.format(**match.groupdict()) if match else None
