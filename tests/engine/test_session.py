"""Sessions: asking again, going on, streaming, stopping, sampling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import locret
from locret.engine.decode import Transcript
from locret.engine.detokenize import Detokenizer
from tests.conftest import make_policy, tiny_llama

BUDGET = locret.Budget(size=48, chunk=32, stabilizers=8, local=10)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte: any text goes in, and most random tokens are pieces of characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def engine() -> locret.Engine:
    model = tiny_llama(vocab_size=256, initializer_range=0.6, max_position_embeddings=4096)
    return locret.Engine(model, byte_tokenizer(), policy=make_policy("locret", model), budget=BUDGET)


TEXT = "It was the best of times, it was the worst of times. " * 5


def test_a_session_is_a_value(engine: locret.Engine) -> None:
    session = engine.prefill(TEXT)
    seen, logits, bytes_ = session.tokens_seen, session.logits.clone(), session.kv_bytes
    first, second = engine.generate(session, 12), engine.generate(session, 12)
    assert first.token_ids == second.token_ids
    engine.prefill(" Who said so?", session)
    assert (session.tokens_seen, session.kv_bytes) == (seen, bytes_)
    assert torch.equal(session.logits, logits)
    assert first.stats.prompt_tokens == seen == len(TEXT)
    assert first.stats.kept_tokens == BUDGET.size + BUDGET.local


@pytest.mark.parametrize("tokens", [-1, len(TEXT) + 1])
def test_a_question_in_front_is_part_of_the_prompt(engine: locret.Engine, tokens: int) -> None:
    with pytest.raises(locret.LocretError, match=f"question_tokens is {tokens}: give how many of the prompt's 265"):
        engine.prefill(TEXT, question_tokens=tokens)
    with pytest.raises(locret.LocretError, match="none where a session goes on"):
        engine.prefill("Why?", engine.prefill(TEXT), question_tokens=2)


def test_a_question_on_a_session_equals_reading_the_document_again(engine: locret.Engine) -> None:
    document = engine.prefill(TEXT)
    answers = [
        engine.generate(engine.prefill(question, document), 8).token_ids for question in (" Why?", " When was it?")
    ]
    for question, expected in zip((" Why?", " When was it?"), answers, strict=True):
        again = engine.prefill(question, engine.prefill(TEXT))
        assert engine.generate(again, 8).token_ids == expected


def test_going_on_from_an_answer_reads_its_last_token(engine: locret.Engine) -> None:
    session = engine.prefill(TEXT)
    whole = engine.generate(session, 10)
    part = engine.generate(session, 4)
    assert part.session.pending == (part.token_ids[-1],)
    rest = engine.generate(part.session, 6)
    assert part.token_ids + rest.token_ids == whole.token_ids
    assert rest.session.tokens_seen == len(TEXT) + 9


def test_many_turns_stay_bounded(engine: locret.Engine) -> None:
    session = engine.prefill(TEXT)
    for turn in range(20):
        session = engine.generate(engine.prefill(f" And {turn}?", session), 5).session
        assert session.cache.stored <= BUDGET.size + BUDGET.chunk + BUDGET.local + 5
    assert session.tokens_seen > 2 * BUDGET.size + len(TEXT)


def test_streamed_pieces_add_up_to_the_text(engine: locret.Engine) -> None:
    session = engine.prefill(TEXT)
    answer = engine.stream(session, 40)
    pieces = list(answer)
    expected = engine.generate(session, 40)
    assert "".join(pieces) == expected.text == answer.result().text
    assert len(pieces) > 1


def test_pieces_of_a_character_are_held_back() -> None:
    tokenizer = byte_tokenizer()
    text = "naïve — 漢字 🙂 end"
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(token) for token in tokenizer(text)["input_ids"]]
    assert "".join(pieces) + detokenizer.flush() == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert "🙂" in pieces


@pytest.mark.parametrize(
    "stops, text, expected",
    [(("\n",), "one\ntwo", "one"), (("END", "STOP"), "a EN b STO END", "a EN b STO "), (("xyz",), "axyxyzb", "axy"),
     (("q",), "none", "none"), (("ab",), "ends with a", "ends with a")],
)  # fmt: skip
def test_a_stop_string_ends_the_text_before_it(stops: tuple[str, ...], text: str, expected: str) -> None:
    tokenizer = byte_tokenizer()
    transcript = Transcript(Detokenizer(tokenizer), stops)
    pieces = []
    for token in tokenizer(text)["input_ids"]:
        pieces.append(transcript.push(token))
        if transcript.stopped:
            break
    pieces.append(transcript.finish())
    assert "".join(pieces) == transcript.text == expected


def test_generation_ends_at_a_stop_token_and_a_stop_string(engine: locret.Engine) -> None:
    session = engine.prefill(TEXT)
    free = engine.generate(session, 20)
    engine.model.generation_config.eos_token_id = [free.token_ids[5]]
    stopped = engine.generate(session, 20)
    engine.model.generation_config.eos_token_id = None
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(free.token_ids[5]) + 1]
    at = next(i for i, char in enumerate(free.text) if i > 2 and char != "\ufffd")
    cut = engine.generate(session, 20, stop=[free.text[at]])
    assert cut.text == free.text[: free.text.index(free.text[at])]


@pytest.mark.parametrize(
    "settings", [{"temperature": 1.0}, {"temperature": 0.7, "top_k": 20}, {"temperature": 1.3, "top_p": 0.8}]
)
def test_sampling_equals_generate_under_the_same_chance(settings: dict[str, Any]) -> None:
    model = tiny_llama(initializer_range=0.6)
    ids = torch.randint(1, 97, (1, 60), generator=torch.Generator().manual_seed(0))
    engine = locret.Engine(model, policy=locret.get_policy("full"), budget=locret.Budget(size=60, chunk=16))
    session = engine.prefill(ids)
    torch.manual_seed(11)
    found = engine.generate(session, 20, **settings).token_ids
    torch.manual_seed(11)
    expected = model.generate(ids, max_new_tokens=20, do_sample=True, **{"top_k": 0, **settings})
    assert found == expected[0, 60:].tolist()
    seeded = [engine.generate(session, 20, seed=5, **settings).token_ids for _ in range(2)]
    assert seeded[0] == seeded[1] != engine.generate(session, 20, seed=6, **settings).token_ids


def test_no_logits_for_prompt_positions_but_the_last(engine: locret.Engine) -> None:
    rows = []
    hook = engine.model.lm_head.register_forward_hook(lambda module, args, out: rows.append(out.shape[:2].numel()))
    engine.prefill(TEXT)
    hook.remove()
    assert rows == [1]


def test_progress_reaches_the_end(engine: locret.Engine) -> None:
    calls: list[tuple[int, int]] = []
    engine.prefill(TEXT, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (len(TEXT), len(TEXT))
    assert len(calls) >= len(TEXT) // BUDGET.chunk
