"""What the engine hands out: a session (a prompt that has been read), and the result of a generation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from locret.cache.budget_cache import BudgetCache


@dataclass(frozen=True)
class Session:
    """A prompt that has been read. It is a value: going on from it never changes it.

    Attributes:
        cache: what is kept of it.
        logits: [vocab], fp32: the prediction after the last token read.
        token_ids: [1, tokens]: everything read, on the CPU.
        prefill_seconds: time spent reading, the whole session long.
        pending: tokens that were generated but not read yet: the last one of an answer, or, with static decoding, all.
    """

    cache: BudgetCache
    logits: Tensor
    token_ids: Tensor
    prefill_seconds: float
    pending: tuple[int, ...] = ()

    @property
    def tokens_seen(self) -> int:
        """Tokens read, evicted ones included."""
        return self.cache.tokens_seen

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values that are held."""
        return self.cache.kv_bytes

    @property
    def offloaded_bytes(self) -> int:
        """Those of `kv_bytes` that are not on the device."""
        return self.cache.offloaded_bytes

    def fork(self) -> Session:
        """A session with a cache of its own; tensors are shared until the two differ."""
        return Session(self.cache.fork(), self.logits, self.token_ids, self.prefill_seconds, self.pending)


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one generation.

    Attributes:
        prompt_tokens: tokens read before it.
        new_tokens: tokens generated.
        kept_tokens: units per KV head that were stored when it began.
        kv_bytes: bytes of keys and values when it ended, wherever they were held; with static decoding in both copies.
        prefill_seconds, decode_seconds: time spent reading and writing.
        offloaded_bytes: those of `kv_bytes` that were not on the device.
        peak_memory_bytes: the devices' peaks, or the process' where the model runs on the CPU.
    """

    prompt_tokens: int
    new_tokens: int
    kept_tokens: int
    kv_bytes: int
    prefill_seconds: float
    decode_seconds: float
    peak_memory_bytes: int
    offloaded_bytes: int = 0


@dataclass(frozen=True)
class Result:
    """A generated answer.

    Attributes:
        text: the answer, cut before a stop string, without special tokens.
        token_ids: the generated tokens, an end token included.
        stats: time and memory.
        session: prompt and answer, to go on from.
    """

    text: str
    token_ids: list[int]
    stats: Stats
    session: Session
