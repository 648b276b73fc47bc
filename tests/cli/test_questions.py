from __future__ import annotations

import random

import pytest

from locret.cli.questions import as_text
from locret.eval.needles import draw_needles, templates


@pytest.mark.parametrize("name", [template.name for template in templates()])
def test_every_form_of_the_built_in_model_gets_the_beginning_of_its_answer(name: str) -> None:
    [needle] = draw_needles(name, 1, random.Random(0))
    plain = needle.asked.removeprefix("Question: ")
    assert as_text(plain) == needle.question


def test_other_questions_get_a_cue_and_whole_ones_stay() -> None:
    assert as_text(" Why did they go? ") == "Question: Why did they go? Answer:"
    assert as_text("Q: Why? Answer: Because") == "Q: Why? Answer: Because"
