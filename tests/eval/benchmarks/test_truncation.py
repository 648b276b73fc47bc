from __future__ import annotations

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import Example
from locret.eval.benchmarks.truncation import Frame, cut_middle, prompt_ids, whole_prompt_ids
from tests.eval.models import byte_tokenizer

EXAMPLE = Example("7", "Read.\n", "0123456789" * 20, "\nWhat?", "0", answer_prefix=" It is")
ASKED = "\nWhat? It is"


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(10, [*range(10)]), (11, [*range(10)]), (5, [0, 1, 8, 9]), (2, [0, 9]), (1, []), (0, []), (-3, [])],
)
def test_the_middle_is_cut(limit: int, kept: list[int]) -> None:
    assert cut_middle(range(10), limit) == kept


def test_nothing_is_cut_without_a_limit() -> None:
    tokenizer = byte_tokenizer(begins=True)
    prompt = prompt_ids(tokenizer, EXAMPLE)
    assert prompt.ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(prompt.ids[1:]) == EXAMPLE.prompt
    assert prompt_ids(tokenizer, EXAMPLE, limit=len(prompt.ids)) == prompt
    assert tokenizer.decode(prompt.question) == ASKED


def test_a_bos_token_that_the_tokenizer_does_not_put_before_texts_is_not_put_there() -> None:
    tokenizer = byte_tokenizer()
    assert tokenizer.bos_token_id is not None
    assert tokenizer.decode(prompt_ids(tokenizer, EXAMPLE).ids) == EXAMPLE.prompt


def test_names_of_control_tokens_are_text_and_those_of_the_chat_are_tokens() -> None:
    tokenizer = byte_tokenizer()
    frame = Frame((tokenizer.bos_token_id,), "</s>\nIt says:")
    example = Example("7", "A </s> stands here:\n", "It is </s>, <s> or none.", "\nIs </s> there?", "0")
    prompt = prompt_ids(tokenizer, example, frame=frame)
    assert tokenizer.decode(prompt.ids) == f"<s>{example.prompt}</s>\nIt says:"
    assert (prompt.ids.count(tokenizer.bos_token_id), prompt.ids.count(tokenizer.eos_token_id)) == (1, 1)
    assert prompt.question[-len("\nIt says:") - 1] == tokenizer.eos_token_id


@pytest.mark.parametrize("limit", [100, 61, 20, 19])
def test_only_the_document_is_cut(limit: int) -> None:
    tokenizer = byte_tokenizer(begins=True)
    prompt = prompt_ids(tokenizer, EXAMPLE, limit)
    assert limit - 1 <= len(prompt.ids) <= limit
    text = tokenizer.decode(prompt.ids[1:])
    assert text.startswith("Read.\n")
    assert text.endswith(ASKED)
    kept = text.removeprefix("Read.\n").removesuffix(ASKED)
    assert EXAMPLE.document.startswith(kept[: len(kept) // 2])
    assert EXAMPLE.document.endswith(kept[len(kept) // 2 :])


def test_questions_of_one_document_share_its_context() -> None:
    tokenizer = byte_tokenizer(begins=True)
    other = Example("8", EXAMPLE.before, EXAMPLE.document, "\nWhat else is there?", "1")
    room = max(len(prompt_ids(tokenizer, example).question) for example in (EXAMPLE, other))
    first, second = (prompt_ids(tokenizer, example, 90, question_room=room) for example in (EXAMPLE, other))
    assert first.context == second.context
    assert len(first.ids) < len(second.ids) == 89  # both halves of the document are of the same size


def test_no_room_for_the_question() -> None:
    with pytest.raises(LocretError, match=r"example 7 does not fit 18 tokens: .* alone have 19"):
        prompt_ids(byte_tokenizer(begins=True), EXAMPLE, 18)


def test_the_authors_cut_the_whole_prompt() -> None:
    tokenizer = byte_tokenizer(begins=True)
    whole = list(tokenizer(EXAMPLE.prompt)["input_ids"])
    assert whole_prompt_ids(tokenizer, EXAMPLE) == whole
    assert whole_prompt_ids(tokenizer, EXAMPLE, 10) == [*whole[:5], *whole[-5:]]
