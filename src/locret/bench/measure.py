"""Measuring: contestants take turns in every round, so that a machine's moods meet all of them alike; medians count."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import mean, median
from typing import Any

import torch

from locret.bench.contestants import LIMIT, PLAIN, Contestant
from locret.bench.memory import peak_bytes, reset_peak
from locret.memory import is_out_of_memory

OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Run:
    """One reading and one answer.

    Attributes:
        prefill_seconds: until the logits after the prompt are there.
        first_seconds: until the first token is known.
        decode_seconds: for the answer after its first token.
        prefill_peak_bytes: of reading.
        peak_bytes: of reading and writing.
        kv_bytes: held after reading.
    """

    prefill_seconds: float
    first_seconds: float
    decode_seconds: float
    prefill_peak_bytes: int
    peak_bytes: int
    kv_bytes: int

    @classmethod
    def together(cls, runs: Sequence[Run]) -> Run:
        """Several of one round as one: means of the seconds, the largest of the bytes."""
        names = [field.name for field in fields(cls)]
        return cls(*((mean if "seconds" in name else max)(getattr(run, name) for run in runs) for name in names))


@dataclass(frozen=True, slots=True)
class Row:
    """Medians of one contestant at one length.

    Attributes:
        policy: the contestant.
        length: tokens of the prompt.
        new_tokens: tokens of the answer.
        runs: all that was measured, in order.
        reason: why there are none.
    """

    policy: str
    length: int
    new_tokens: int
    runs: tuple[Run, ...]
    reason: str = ""

    def median(self, what: str) -> float | None:
        """The median of one figure; None if nothing was measured."""
        return median(getattr(run, what) for run in self.runs) if self.runs else None

    @property
    def prefill_rate(self) -> float | None:
        """Tokens read a second."""
        return _rate(self.length, self.median("prefill_seconds"))

    @property
    def decode_rate(self) -> float | None:
        """Tokens written a second, the first aside."""
        return _rate(self.new_tokens - 1, self.median("decode_seconds"))

    def as_json(self, rows: Sequence[Row] = ()) -> dict[str, Any]:
        """The row; its rates also as multiples of those of the limit and of transformers, where `rows` has them."""
        return {
            "policy": self.policy,
            "length": self.length,
            "prefill_seconds": self.median("prefill_seconds"),
            "prefill_tokens_per_second": self.prefill_rate,
            "time_to_first_token_seconds": self.median("first_seconds"),
            "decode_tokens_per_second": self.decode_rate,
            "peak_memory_bytes": self.median("peak_bytes"),
            "prefill_peak_memory_bytes": self.median("prefill_peak_bytes"),
            "kv_bytes": self.median("kv_bytes"),
            "repeats": len(self.runs),
            "reason": self.reason or None,
            "prefill_seconds_all": [run.prefill_seconds for run in self.runs],
            **{f"prefill_to_{name}": self.over(name, rows, "prefill_rate") for name in (LIMIT, PLAIN)},
            **{f"decode_to_{name}": self.over(name, rows, "decode_rate") for name in (LIMIT, PLAIN)},
        }

    def over(self, name: str, rows: Sequence[Row], rate: str = "prefill_rate") -> float | None:
        """How many times as fast as another contestant at the same length; None if it did not take part."""
        own = getattr(self, rate)
        others = [getattr(row, rate) for row in rows if (row.policy, row.length) == (name, self.length)]
        return own / others[0] if own and others and others[0] else None


def _rate(tokens: int, seconds: float | None) -> float | None:
    return tokens / seconds if tokens and seconds else None


Watch = Callable[[str, int, int], Callable[[int, int], None] | None]


def compare(
    contestants: Sequence[Contestant],
    ids: Sequence[int],
    *,
    repeats: int,
    new_tokens: int,
    device: torch.device,
    warm_up: int = 0,
    turns: int = 1,
    watch: Watch = lambda name, length, repeat: None,
) -> list[Row]:
    """Let all contestants read the same prompt, in turns. One that runs out of memory is left out from then on.

    Every other turn goes back from the last to the first, lest one always comes behind what another leaves to it: a
    slower clock, or memory in pieces.

    Args:
        contestants: who takes part.
        ids: the prompt.
        repeats: rounds.
        new_tokens: tokens of each answer.
        device: where the model is.
        warm_up: tokens that each of them reads before the first round.
        turns: how often each of them reads in a round, which counts as one run (`Run.together`): on a busy machine
            short readings scatter by more than they differ.
        watch: called with name, length and round before every run; gives a callback for its progress.
    """
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in contestants}
    gone: set[str] = set()
    for repeat in range(repeats + 1):
        taken: dict[str, list[Run]] = {contestant.name: [] for contestant in contestants}
        for turn in range(turns if repeat else 1):
            back = repeat and (turns * (repeat - 1) + turn) % 2
            for contestant in reversed(contestants) if back else contestants:
                name, prompt = contestant.name, ids if repeat else ids[:warm_up]
                if name in gone or not prompt:
                    continue
                progress = watch(name, len(ids), repeat) if repeat else None
                try:
                    taken[name].append(run_once(contestant, prompt, new_tokens, device, progress))
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    gone.add(name)
        for name, own in taken.items():
            if repeat and own:
                runs[name].append(Run.together(own))
    return [
        Row(name, len(ids), new_tokens, (), OUT_OF_MEMORY)
        if name in gone
        else Row(name, len(ids), new_tokens, tuple(own))
        for name, own in runs.items()
    ]


def run_once(
    contestant: Contestant,
    ids: Sequence[int],
    new_tokens: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """One reading and one answer."""
    reset_peak(device)
    synchronise(device)
    began = time.perf_counter()
    state = contestant.read(ids, progress)
    synchronise(device)
    read = time.perf_counter()
    contestant.first(state)
    known = time.perf_counter()
    kv_bytes, prefill_peak = contestant.kv_bytes(state), peak_bytes(device)
    before = time.perf_counter()
    if new_tokens > 1:
        contestant.write(state, new_tokens)
        synchronise(device)
    decode_seconds = time.perf_counter() - before
    return Run(read - began, known - began, decode_seconds, prefill_peak, peak_bytes(device), kv_bytes)


def synchronise(device: torch.device) -> None:
    """Wait for what a CUDA device has to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
