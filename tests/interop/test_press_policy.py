"""Presses of kvpress in our evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

import locret
from locret.cli.app import app
from locret.eval.grid import BudgetRule, Grid
from locret.eval.haystack import Filler
from locret.eval.results import ResultFile, Subject
from locret.eval.runner import Reader, run_grid
from locret.interop.press_policy import PressPolicy
from locret.models.families import attention_modules
from tests.cli.conftest import error_line
from tests.conftest import tiny_llama
from tests.eval.models import TEXT, byte_llama, byte_tokenizer
from tests.eval.test_runner import Watched
from tests.interop.conftest import KEPT, TOKENS, prompt

SUBJECT = Subject("tiny", "", "0", "float32", "test")
UNIT = 384  # bytes of one token in `byte_llama`


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@torch.no_grad()
def test_questions_see_what_is_left_at_true_positions(kvpress: Any) -> None:
    """Logits after a press equal those of a dense pass whose last tokens cannot see the pruned ones."""
    model, ids, asked = tiny_llama(), prompt(), prompt(7)
    reading = PressPolicy("StreamingLLMPress").open_reading(model, byte_tokenizer(), locret.Budget(size=KEPT))
    session = reading.read(ids[0].tolist(), lambda done, total: None)
    positions = torch.arange(TOKENS, TOKENS + 7)[None]
    got = model(asked, past_key_values=session.fork_cache(), position_ids=positions).logits
    visible = torch.ones(TOKENS + 7, TOKENS + 7, dtype=torch.bool).tril()
    visible[TOKENS:, 4 : TOKENS - KEPT + 4] = False  # StreamingLLM keeps the first four and the newest
    want = model(torch.cat([ids, asked], dim=-1), attention_mask=visible[None, None]).logits[:, TOKENS:]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("press", ["StreamingLLMPress", "KVzipPress", "PyramidKVPress"])
def test_a_forced_continuation_is_scored_on_what_is_left(kvpress: Any, press: str, tmp_path: Path) -> None:
    """The first token as full attention has it, the others not; with nothing pruned, all of them."""
    model, tokenizer = byte_llama(), byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    model.config.name_or_path = str(tmp_path)
    document, forced = tokenizer(TEXT[:600])["input_ids"], tokenizer(TEXT[600:670])["input_ids"]
    reading = PressPolicy(press).open_reading(model, tokenizer, locret.Budget(size=200))
    session = reading.read(document, lambda done, total: None)
    rows = torch.cat(list(reading.score(session, forced)))
    assert rows.shape == (70, 258)
    dense = model(torch.tensor([document + forced])).logits[0, len(document) - 1 : -1]
    torch.testing.assert_close(rows[0], dense[0], atol=1e-4, rtol=1e-4)  # before anything is pruned
    assert (rows - dense).abs().max() > 1e-2
    assert torch.equal(rows, torch.cat(list(reading.score(session, forced))))  # the session stays as it is
    everything = PressPolicy(press).open_reading(model, tokenizer, locret.Budget(size=1000))
    whole = everything.read(document, lambda done, total: None)
    torch.testing.assert_close(torch.cat(list(everything.score(whole, forced))), dense, atol=1e-3, rtol=1e-3)


def test_an_answer_goes_on_from_the_true_length(kvpress: Any) -> None:
    model, places = byte_llama(), []
    reading = PressPolicy("KnormPress").open_reading(model, byte_tokenizer(), locret.Budget(size=KEPT))
    session = reading.read(prompt()[0].tolist(), lambda done, total: None)
    assert (session.tokens_seen, session.kv_bytes) == (TOKENS, KEPT * UNIT)
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: places.extend(kwargs["position_ids"][0].tolist()), with_kwargs=True
    )
    reading.ask(session, prompt(7)[0].tolist(), 5, ())
    assert places == list(range(TOKENS, TOKENS + len(places)))
    assert len(places) > 7


@pytest.mark.parametrize("press", ["SnapKVPress", "PyramidKVPress", "KVzipPress"])
def test_a_budget_that_holds_everything_answers_like_full_attention(kvpress: Any, press: str, tmp_path: Path) -> None:
    model, tokenizer = byte_llama(), byte_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model.config.name_or_path = str(tmp_path)  # KVzip loads the tokenizer from there
    document, question = tokenizer(TEXT[:600])["input_ids"], tokenizer("\nWhere?")["input_ids"]
    budget = locret.Budget(size=1000, chunk=128)
    engine = locret.Engine(model, tokenizer, policy=locret.get_policy("full"), budget=budget)
    want = engine.generate(engine.prefill(question, engine.prefill(document)), max_new_tokens=12).text
    reading = PressPolicy(press).open_reading(model, tokenizer, budget)
    session = reading.read(document, lambda done, total: None)
    before = session.kv_bytes
    assert [reading.ask(session, question, 12, ()) for _ in range(2)] == [want, want]
    assert session.kv_bytes == before == len(document) * UNIT


def test_hidden_units_stay_with_their_session(kvpress: Any, tmp_path: Path) -> None:
    """KVzip hides units instead of pruning them; the model must not go on hiding them for others."""
    model, tokenizer = byte_llama(), byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    model.config.name_or_path = str(tmp_path)
    document, question = tokenizer(TEXT[:600])["input_ids"], tokenizer("\nWhere?")["input_ids"]
    reading = PressPolicy("KVzipPress").open_reading(model, tokenizer, locret.Budget(size=64))
    session = reading.read(document, lambda done, total: None)
    assert all(mask is not None for mask in session.masks)
    assert session.kv_bytes == len(document) * UNIT
    first = reading.ask(session, question, 8, ())
    assert all(module.masked_key_indices is None for module in attention_modules(model))
    reading.read(document[:300], lambda done, total: None)
    assert reading.ask(session, question, 8, ()) == first


def test_layers_of_uneven_length_can_be_asked(kvpress: Any) -> None:
    model, tokenizer = byte_llama(), byte_tokenizer()
    document, question = tokenizer(TEXT[:900])["input_ids"], tokenizer("\nWhere?")["input_ids"]
    reading = PressPolicy("PyramidKVPress").open_reading(model, tokenizer, locret.Budget(size=500))
    session = reading.read(document, lambda done, total: None)
    assert len({layer.keys.shape[2] for layer in session.cache.layers}) > 1
    assert reading.ask(session, question, 8, ())


def test_presses_beside_policies_in_one_evaluation(kvpress: Any, tmp_path: Path) -> None:
    model, tokenizer, _ = locret.load_builtin()
    compared = {
        "random": locret.get_policy("random"),
        "kvpress:SnapKVPress": PressPolicy("SnapKVPress"),
        "kvpress:KnormPress": PressPolicy("KnormPress"),
    }
    watch = Watched()
    reader = Reader(model, tokenizer, compared, Filler(TEXT), watch)
    grid = Grid(("magic",), (512,), (128, 64), samples=4, keys=2, rule=BudgetRule(chunk=128, local=0, stabilizers=8))
    rows = run_grid(reader, grid, SUBJECT, ResultFile(tmp_path))
    told = [(row["policy"], row["prefill"], row["budget"]) for row in (row.as_json() for row in rows)]
    assert told == [
        (name, prefill, budget)
        for name, prefill in (("random", "chunked"), ("kvpress:SnapKVPress", "dense"), ("kvpress:KnormPress", "dense"))
        for budget in (128, 64)
    ]
    ours, snap, norm = ([row.measures.kv_bytes for row in rows[at : at + 2]] for at in (0, 2, 4))
    assert ours == snap == norm
    assert ours[0] == 2 * ours[1]
    assert all(done == total == 1024 for total, done in watch.tokens.values())
    again = Watched()
    reader = Reader(model, tokenizer, compared, Filler(TEXT), again)
    assert run_grid(reader, grid, SUBJECT, ResultFile(tmp_path)) == rows
    assert again.resumed == [True] * 6


def test_the_command_takes_presses(kvpress: Any) -> None:
    grid = ("--lengths", 400, "--budgets", 100, "--samples", 2, "--tasks", "magic", "--keys", 2)
    result = run("eval", "--policies", "full,kvpress:TOVAPress", *grid)
    assert result.exit_code == 0, result.stderr
    assert "kvpress:TOVAPress" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "--policies", "kvpress:NoPress"), "unknown press 'NoPress': choose one of"),
        (("eval", "--policies", "kvpress:AdaKVPress"), "unknown press 'AdaKVPress': choose one of"),  # wraps another
        (("eval", "--policies", "kvpress:SnapKVPress", "--positions", "compact"), "reads with true positions"),
        (("eval", "--policies", "kvpress:ObservedAttentionPress", "--lengths", 400), "Press failed: Set attn_impl"),
    ],
)
def test_presses_that_cannot_be_used(kvpress: Any, arguments: tuple[Any, ...], message: str) -> None:
    assert message in error_line(run(*arguments))


def test_a_press_cannot_generate(tmp_path: Path) -> None:
    (tmp_path / "document.txt").write_text(TEXT[:900], encoding="utf-8")
    asked = ("--document", tmp_path / "document.txt", "--question", "Where?")
    assert "can only be compared" in error_line(run("generate", "--policy", "kvpress:SnapKVPress", *asked))
