"""The demo of chat models: one document, natural questions, and every policy's answers side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from locret.cache.budget import Budget
from locret.cli.budget import prompt_budget
from locret.cli.common import Output
from locret.cli.guide import QUESTIONS, GuideQuestion, guide
from locret.cli.kept import show_kept
from locret.cli.loading import Loaded, load
from locret.cli.progress import reading
from locret.engine import Engine
from locret.errors import LocretError
from locret.eval.grid import Cell, parse_budget, size_of
from locret.eval.intervals import wilson
from locret.eval.results import Measures, Row, Subject
from locret.eval.strip import KeptDocument, kept_shares
from locret.eval.subject import subject_of
from locret.eval.table import rich_table
from locret.models.chat import Message

POLICIES = ("full", "locret", "streaming_llm")
MAX_NEW_TOKENS = 24
FOUND, MISSED = "green", "red"


@dataclass(frozen=True, slots=True)
class Prompts:
    """The guide and its questions in a chat template.

    Attributes:
        read: ids that all prompts begin with, up to the end of the guide.
        asked: for each question the ids that follow.
        facts: for each question where in `read` its answer stands.
    """

    read: list[int]
    asked: list[list[int]]
    facts: list[int]

    @classmethod
    def of(cls, tokenizer: Any, questions: Sequence[GuideQuestion]) -> Prompts:
        """Each prompt is the whole chat, tokenised at once; the document is the beginning that they share.

        Raises:
            LocretError: the chat template cannot be cut.
        """
        text = guide()
        chats = [Message(tokenizer, f"{text}\n\n{one.text}").tokens([len(text) + 2]) for one in questions]
        columns = zip(*(chat.ids for chat in chats), strict=False)
        same = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        end = min(same, *(cut for chat in chats for cut in chat.cuts))
        facts = Message(tokenizer, text).tokens([text.index(one.fact) for one in questions]).cuts
        return cls(chats[0].ids[:end], [chat.ids[end:] for chat in chats], facts)


@dataclass(frozen=True, slots=True)
class Reply:
    """A policy's answer to a question.

    Attributes:
        question, answer: what was asked, and what a right answer holds.
        text: the reply.
        right: whether it does.
        seconds: to read the question and reply.
    """

    question: str
    answer: str
    text: str
    right: bool
    seconds: float


def ask_about_guide(written: Output, model: str, heads: str | None, budget: str, out: Path, device: str) -> None:
    """Read the guide with every policy and ask all questions, each after the guide as it was kept.

    Raises:
        LocretError: the model has no chat template, or the budget does not fit.
    """
    part = parse_budget(budget)
    loaded = load(model, heads, "auto", device)
    if not loaded.tokenizer.chat_template:
        raise LocretError(
            f"model {model!r} has no chat template, in which the demo asks its questions: name an instruct model, "
            "or leave out --model for the built-in one"
        )
    prompts = Prompts.of(loaded.tokenizer, QUESTIONS)
    units = prompt_budget(model, size_of(part, len(prompts.read)), None, None, None, "true")
    subject = subject_of(loaded.model, loaded.heads, model_name=model, heads_name=heads or "", filler="guide")
    names = [name for name in POLICIES if name != "locret" or loaded.heads is not None]
    if "locret" not in names:
        written.notes.print(
            "locret itself is left out: no retaining heads came with this model; name some with --heads, or train them "
            "with `locret train`",
            soft_wrap=True,
        )
    written.notes.print(f"{len(QUESTIONS)} questions about a guide of {len(prompts.read)} tokens")
    told = [_told(written, loaded, name, prompts, units, subject) for name in names]
    rows = [row for row, _, _ in told]
    replies = {row.cell.policy: answers for row, answers, _ in told}
    written.console.print(_side_by_side(replies))
    written.console.print(rich_table(rows))
    written.result["results"] = [
        {**row.as_json(), "answers": [asdict(one) for one in replies[row.cell.policy]]} for row in rows
    ]
    kept = {row.cell.policy: pieces for row, _, pieces in told}
    show_kept(written, kept, rows, out, names[1], "facts that were asked for")


def _told(
    written: Output, loaded: Loaded, name: str, prompts: Prompts, units: Budget, subject: Subject
) -> tuple[Row, list[Reply], KeptDocument]:
    """One policy's row, replies, and what it kept."""
    policy = loaded.policy(name)
    engine = Engine(loaded.model, loaded.tokenizer, policy=policy, budget=units)
    longest = max(map(len, prompts.asked))
    with reading(written.notes, f"{name} reads") as progress:
        session = engine.prefill(prompts.read, progress=progress, answer_tokens=MAX_NEW_TOKENS, later_tokens=longest)
    replies = []
    for question, ids in zip(QUESTIONS, prompts.asked, strict=True):
        began = time.perf_counter()
        text = engine.generate(engine.prefill(ids, session), MAX_NEW_TOKENS, stop=("\n",)).text.strip()
        seconds = round(time.perf_counter() - began, 4)
        replies.append(Reply(question.text, question.answer, text, question.right(text), seconds))
    length, count = len(prompts.read), len(replies)
    share = sum(reply.right for reply in replies) / count
    low, high = wilson(share, 1)  # as of every score: by documents, and this is one
    measures = Measures(
        score=round(100 * share, 2),
        low=round(100 * low, 2),
        high=round(100 * high, 2),
        kv_bytes=session.kv_bytes,
        prefill_seconds=round(session.prefill_seconds, 4),
        decode_seconds=round(sum(reply.seconds for reply in replies) / count, 4),
    )
    cell = Cell(
        policy=name,
        task="guide",
        length=length,
        budget=units if policy.evicts else replace(units, size=length),
        samples=count,
        seed=0,
        keys=count,
        split="",
        query_first=False,
        chat=True,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    found = {place: reply.right for place, reply in zip(prompts.facts, replies, strict=True)}
    return Row(cell, measures, subject), replies, KeptDocument(kept_shares(session.cache, length), found)


def _side_by_side(replies: dict[str, list[Reply]]) -> Table:
    """One line a question, a column a policy; right answers in green."""
    table = Table(box=SIMPLE, padding=(0, 1), show_lines=True)
    table.add_column("question (answer)", ratio=1)
    for name in replies:
        table.add_column(name, ratio=1)
    for line in zip(*replies.values(), strict=True):
        asked = Text(f"{line[0].question} ({line[0].answer})")
        table.add_row(asked, *(Text(reply.text, style=FOUND if reply.right else MISSED) for reply in line))
    return table
