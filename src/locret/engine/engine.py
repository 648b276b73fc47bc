"""The engine: reads prompts of any length in fixed memory, and answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList

from locret.attention.select import check_attention, use_attention
from locret.cache.budget import Budget
from locret.cache.budget_cache import BudgetCache
from locret.cache.storage import Storage
from locret.engine.answer import Answer
from locret.engine.decode import stop_strings
from locret.engine.sampling import Sampling
from locret.engine.scoring import forced_logits
from locret.engine.session import Result, Session
from locret.engine.static import StaticDecoders
from locret.errors import LocretError
from locret.models.families import decoder_of, text_config
from locret.models.placement import input_device
from locret.models.token_ids import TokenIds, token_ids
from locret.policies.base import Policy, QueryAware
from locret.texts import check_characters
from locret.values import check_whole, is_whole

Progress = Callable[[int, int], None]


class Engine:
    """Chunked prefill with eviction, and decoding, for one model, policy and budget.

    Args:
        model: a causal language model of transformers; it is not changed, but for hooks (`locret.detach`).
        tokenizer: its tokenizer; None if only token ids go in, and text is not wanted.
        policy: what to keep.
        budget: how much to keep, and how to read.
        attention: registered attention to compute with; None keeps the model's own.
        storage: how kept units are held: a registered name, or a maker of empty storages.
        static: whether answers are written in static shapes, on CUDA by a recorded graph: less time a token where
            launching operations takes longer than computing them, for a second copy of what is kept. An answer is read
            like a prompt when its session goes on.

    Raises:
        LocretError: the model, policy or names do not fit.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        policy: Policy,
        budget: Budget,
        attention: str | None = "split",
        storage: str | Callable[[], Storage] = "dense",
        static: bool = False,
    ) -> None:
        with use_attention(model, attention):  # an unknown name should fail here, not at the first prompt
            self.model, self.tokenizer = model, tokenizer
        self.policy, self.budget = policy, budget
        self.attention, self.storage = attention, storage
        cache = self._new_cache()
        chooses = getattr(cache.layers[cache.budgeted[0]].storage, "keeps_everything", False)
        check_attention(attention, policy.evicts, chooses, budget.positions)
        self.static = StaticDecoders(model, cache) if static else None

    @torch.no_grad()
    def prefill(
        self,
        prompt: str | TokenIds,
        session: Session | None = None,
        progress: Progress | None = None,
        answer_tokens: int = 0,
        question_tokens: int = 0,
        later_tokens: int = 0,
    ) -> Session:
        """Read a prompt, from scratch or on top of a session.

        All but the last `budget.local` tokens are read in chunks, with eviction after each; the local tail comes last
        and is never evicted. Logits are computed for the last position only.

        Args:
            prompt: text, or token ids [tokens] or [1, tokens]: a list, an array, a tensor, what a tokenizer returns.
            session: what was read before; it stays as it is.
            progress: called with (tokens read, tokens in all) after every chunk.
            answer_tokens: length that the answer may have, where known. An answer that would not fit the window is
                refused before anything is read, and models with LongRoPE (Phi-3) choose their rotary factors by the
                length of the whole.
            question_tokens: how many tokens at the start of a prompt belong to a question about the rest of it, what
                stands before them (BOS) included. Policies that take notice (`QueryAware`) do so for the whole session.
            later_tokens: tokens of turns that will be read between this prompt and the answer, where known.

        Raises:
            LocretError: the prompt is empty, something in it is no token id of the model, it does not fit the model's
                window with what will follow it, or the question is not in it.
        """
        began = time.perf_counter()
        for name, count in (("answer_tokens", answer_tokens), ("later_tokens", later_tokens)):
            check_whole(name, count, 0)
        if session is not None:
            _check_session(session)
        ids = self._ids(prompt, first=session is None)
        answer = session is not None and ids.numel() == 0 and len(session.pending) == 1  # its last token is to be read
        if session is not None and session.pending:
            ids = torch.cat([torch.tensor([session.pending], device="cpu"), ids], dim=-1)
        if ids.numel() == 0:
            raise LocretError("the prompt is empty: give at least one token")
        most = ids.shape[1] if session is None else 0
        if not is_whole(question_tokens) or not 0 <= question_tokens <= most:
            raise LocretError(
                f"question_tokens is {question_tokens!r}: give how many of the prompt's {ids.shape[1]} tokens belong "
                "to a question at its start, and none where a session goes on"
            )
        cache = self._new_cache(question_tokens) if session is None else session.cache.fork()
        cache.check_window(ids.shape[1], later_tokens, answer_tokens)
        if not answer:
            cache.begin_turn(ids.shape[1])
        if session is None and later_tokens + answer_tokens:
            cache.total_length = ids.shape[1] + later_tokens + answer_tokens
        logits = self._read(cache, ids, progress)
        return Session(
            cache=cache,
            logits=logits,
            token_ids=ids if session is None else torch.cat([session.token_ids, ids], dim=-1),
            prefill_seconds=time.perf_counter() - began + (session.prefill_seconds if session else 0.0),
        )

    def generate(self, session: Session, max_new_tokens: int = 64, **settings: Any) -> Result:
        """Answer. The session stays as it is: ask it again, or go on from `result.session`.

        Args:
            session: a prompt that has been read.
            max_new_tokens: tokens at most.
            settings: `temperature`, `top_k`, `top_p`, `seed` as in `Sampling` (greedy by default); `stop`, a string, or
                several, that ends the answer besides the model's stop tokens; `processors`, further logits processors
                of transformers.

        Raises:
            LocretError: bad settings, the answer would not fit the model's window, or the model's predictions are no
                numbers.
        """
        answer = self._answer(session, max_new_tokens, **settings)
        for _ in answer:
            pass
        return answer.result()

    def stream(self, session: Session, max_new_tokens: int = 64, **settings: Any) -> Answer:
        """Like `generate`, piece by piece: iterate over the text as it comes, then call `.result()`.

        The pieces add up to the text that `generate` gives for the same settings.
        """
        return self._answer(session, max_new_tokens, **settings)

    def score(self, session: Session, ids: TokenIds) -> Tensor:
        """The logits [tokens, vocab], fp32, that predict each of the given tokens as an answer (teacher forcing).

        All rows are held at once: `score_pieces` gives them a few at a time.
        """
        return torch.cat(list(self.score_pieces(session, ids)))

    def score_pieces(self, session: Session, ids: TokenIds) -> Iterator[Tensor]:
        """The rows of `score` piece by piece: see `locret.engine.scoring`. The session stays as it is.

        Raises:
            LocretError: no tokens are given, they are outside the vocabulary or do not fit the model's window, or the
                model's predictions are no numbers.
        """
        tokens = self._ids(ids, first=False)
        if tokens.numel() == 0:
            raise LocretError("there is no token to score: give at least one")
        session = self._settled(session)
        return forced_logits(self.model, self.attention, session, tokens)

    def _answer(
        self,
        session: Session,
        limit: int,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        processors: LogitsProcessorList | None = None,
    ) -> Answer:
        sampling = Sampling(temperature, top_k, top_p, seed)
        stops = stop_strings(stop)
        session = self._settled(session)
        return Answer(
            self.model, self.tokenizer, self.attention, session, limit, sampling, stops, processors, self.static
        )

    def _settled(self, session: Session) -> Session:
        """With what an answer left pending read, so that the logits are those after the last token."""
        _check_session(session)
        return self.prefill([], session) if session.pending else session

    def _new_cache(self, question_tokens: int = 0) -> BudgetCache:
        policy = self.policy
        if question_tokens and isinstance(policy, QueryAware):
            policy = policy.asked(question_tokens)
        return BudgetCache(self.model, policy=policy, budget=self.budget, storage=self.storage)

    def _read(self, cache: BudgetCache, ids: Tensor, progress: Progress | None) -> Tensor:
        """Feed `ids` [1, tokens] piece by piece; logits [vocab] of the last position."""
        decoder, device = decoder_of(self.model), input_device(self.model)
        *body, last = ids.split(cache.plan(ids.shape[1]), dim=-1)
        done = 0
        with use_attention(self.model, self.attention):
            for piece in body:
                decoder(input_ids=piece.to(device), past_key_values=cache, use_cache=True)
                done += piece.shape[1]
                if progress:
                    progress(done, ids.shape[1])
            output = self.model(input_ids=last.to(device), past_key_values=cache, use_cache=True, logits_to_keep=1)
        if progress:
            progress(ids.shape[1], ids.shape[1])
        logits: Tensor = output.logits[0, -1].float()
        return logits

    def _ids(self, prompt: str | TokenIds, *, first: bool) -> Tensor:
        """Token ids [1, tokens] on the CPU."""
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise LocretError("a prompt of text needs a tokenizer: give one to Engine, or give token ids")
            check_characters(prompt, "the prompt")
            prompt = self.tokenizer(prompt, add_special_tokens=first)["input_ids"]
        return token_ids(prompt, text_config(self.model.config).vocab_size)


def _check_session(session: Session) -> None:
    if not isinstance(session, Session):
        raise LocretError(
            f"session is a {type(session).__name__}: give what prefill returns, or the session of a result"
        )
