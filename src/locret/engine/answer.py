"""One answer under way: decoding, its text, and the result at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from transformers import LogitsProcessorList

from locret.attention.select import use_attention
from locret.engine.decode import Transcript, decode, stop_tokens
from locret.engine.detokenize import Detokenizer
from locret.engine.memory import peak_memory_bytes
from locret.engine.sampling import Sampling
from locret.engine.session import Result, Session, Stats
from locret.engine.static import StaticDecoders
from locret.errors import LocretError
from locret.models.placement import devices_of
from locret.values import check_whole


class Answer:
    """One generation: iterate over its text, then take the result.

    A loop that was left is gone on with by the next one. After an exception (Ctrl-C, out of memory, an error in a
    processor) there is no going on, but `result()` still has what was written before.

    Args:
        model, tokenizer, attention: as given to the engine.
        session: what has been read; it stays as it is.
        limit: tokens at most.
        sampling: how tokens are chosen.
        stop: strings that end the answer.
        processors: further logits processors.
        static: writes in static shapes; the answer is then read when its session goes on. None for the cache itself.

    Raises:
        LocretError: no tokens are allowed, they would not fit the model's window, or stop strings cannot be found as
            there is no tokenizer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        attention: str | None,
        session: Session,
        limit: int,
        sampling: Sampling,
        stop: Sequence[str],
        processors: LogitsProcessorList | None = None,
        static: StaticDecoders | None = None,
    ) -> None:
        check_whole("max_new_tokens", limit, 1)
        if stop and tokenizer is None:
            raise LocretError("stop strings need a tokenizer: give one to Engine, or leave stop out")
        self.model, self.attention, self.session, self.limit = model, attention, session, limit
        self.stops = stop_tokens(model, tokenizer)
        self.sampling, self.processors = sampling, processors or LogitsProcessorList()
        self.static, self.static_bytes = static, 0
        self.seconds = 0.0
        self.cache = session.cache.fork()
        self.cache.check_window(0, answer=limit)
        self.transcript = Transcript(Detokenizer(tokenizer), stop) if tokenizer is not None else None
        self.tokens: list[int] = []
        self.logits = session.logits
        self.in_step = False  # the cache is between two tokens
        self._pieces: Iterator[str] | None = None

    def __iter__(self) -> Iterator[str]:
        """The text that is still to come.

        Raises:
            LocretError: the answer was broken off.
        """
        if self.in_step:
            raise LocretError(
                f"this answer was broken off after {len(self.tokens)} tokens: take result() for what there is, or ask "
                "the session again"
            )
        if self._pieces is None:
            self._pieces = self._generated()
        return self._pieces

    def _generated(self) -> Iterator[str]:
        began = time.perf_counter()
        with ExitStack() as held:
            model = self.model
            if self.static is not None:
                with use_attention(self.model, self.attention):
                    model = held.enter_context(self.static.writing(self.session.cache, self.limit))
                self.static_bytes = model.nbytes
            self.seconds += time.perf_counter() - began
            yield from self._written(model)

    def _written(self, model: Any) -> Iterator[str]:
        steps = decode(
            model,
            self.cache,
            self.session.logits,
            self.session.token_ids,
            limit=self.limit,
            stops=self.stops,
            sampling=self.sampling,
            processors=self.processors,
        )
        while True:
            began, self.in_step = time.perf_counter(), True
            with use_attention(self.model, self.attention):
                step = next(steps, None)
            self.seconds += time.perf_counter() - began
            if step is not None:
                token, self.logits = step
                self.tokens.append(token)
            self.in_step = False
            if step is None:
                break
            piece = self.transcript.push(token) if self.transcript else ""
            if piece:
                yield piece
            if self.transcript and self.transcript.stopped:
                break
        rest = self.transcript.finish() if self.transcript else ""
        if rest:
            yield rest

    def result(self) -> Result:
        """The answer so far, or the finished one after the iteration has ended."""
        if not self.tokens:
            raise LocretError("nothing has been generated yet: iterate over the answer first")
        if self.static is None and not self.in_step:
            cache, logits, read = self.cache, self.logits, len(self.tokens) - 1
        else:  # the answer is not in the cache, or nobody knows how much of it: it is read when the session goes on
            cache, logits, read = self.session.cache.fork(), self.session.logits, 0
        seen = torch.cat(
            [self.session.token_ids, torch.tensor([self.tokens[:read]], dtype=torch.long, device="cpu")], dim=-1
        )
        after = Session(cache, logits, seen, self.session.prefill_seconds, tuple(self.tokens[read:]))
        stats = Stats(
            prompt_tokens=self.session.tokens_seen,
            new_tokens=len(self.tokens),
            kept_tokens=self.session.cache.stored,
            kv_bytes=self.cache.kv_bytes + self.static_bytes,
            prefill_seconds=self.session.prefill_seconds,
            decode_seconds=self.seconds,
            peak_memory_bytes=peak_memory_bytes(devices_of(self.model)),
            offloaded_bytes=self.cache.offloaded_bytes,
        )
        return Result(self.transcript.text if self.transcript else "", self.tokens, stats, after)
