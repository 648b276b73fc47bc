from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from locret.bench import Row, Run, compare

CPU = torch.device("cpu")


@dataclass
class Fake:
    """Notes what it is asked to do."""

    name: str
    log: list[tuple[str, str, int]] = field(default_factory=list)
    room: int = 10**6

    def read(self, ids: Sequence[int], progress: Callable[[int, int], None] | None = None) -> Any:
        if len(ids) > self.room:
            raise torch.OutOfMemoryError("no room")
        self.log.append((self.name, "read", len(ids)))
        if progress:
            progress(len(ids), len(ids))
        return object()

    def first(self, state: Any) -> int:
        return 0

    def write(self, state: Any, tokens: int) -> None:
        self.log.append((self.name, "write", tokens))

    def kv_bytes(self, state: Any) -> int:
        return 7


def test_they_take_turns() -> None:
    log: list[tuple[str, str, int]] = []
    seen: list[tuple[str, int, int]] = []

    def watch(name: str, length: int, repeat: int) -> None:
        seen.append((name, length, repeat))

    rows = compare(
        [Fake("a", log), Fake("b", log)], [1] * 9, repeats=3, new_tokens=4, device=CPU, warm_up=2, watch=watch
    )
    assert [entry[0] for entry in log if entry[1] == "read"] == [*"ab", *"ab", *"ba", *"ab"]  # there and back
    assert [entry[2] for entry in log if entry[1] == "read"] == [2, 2] + [9] * 6  # the first two warm up
    assert seen == [(name, 9, repeat) for repeat, names in ((1, "ab"), (2, "ba"), (3, "ab")) for name in names]
    assert [(row.policy, row.length, len(row.runs)) for row in rows] == [("a", 9, 3), ("b", 9, 3)]


def test_several_turns_of_a_round_are_one_run() -> None:
    log: list[tuple[str, str, int]] = []
    rows = compare([Fake("a", log), Fake("b", log)], [1] * 9, repeats=2, new_tokens=1, device=CPU, warm_up=2, turns=3)
    assert "".join(name for name, *_ in log) == "ab" + "abbaab" + "baabba"  # there and back, on from round to round
    assert [len(row.runs) for row in rows] == [2, 2]
    runs = Run(1.0, 2.0, 3.0, 40, 50, 7), Run(3.0, 4.0, 8.0, 60, 30, 7)
    assert Run.together(runs) == Run(2.0, 3.0, 5.5, 60, 50, 7)


def test_one_without_room_is_left_out() -> None:
    log: list[tuple[str, str, int]] = []
    rows = compare([Fake("a", log), Fake("b", log, room=5)], [1] * 9, repeats=2, new_tokens=1, device=CPU, warm_up=4)
    assert [name for name, what, _ in log] == ["a", "b", "a", "a"]  # a single token is not written
    assert rows[1].as_json(rows)["prefill_seconds"] is None
    assert rows[0].as_json(rows)["prefill_seconds"] >= 0


def test_medians_and_ratios() -> None:
    def row(name: str, *seconds: float) -> Row:
        return Row(name, 100, 11, tuple(Run(s, 2 * s, s / 10, int(10 * s), int(100 * s), 7) for s in seconds))

    rows = [row("own", 9.0, 2.0, 4.0), row("limit", 1.0, 2.0, 3.0), row("transformers", 8.0)]
    found = rows[0].as_json(rows)
    assert found["prefill_seconds"] == 4.0
    assert found["prefill_tokens_per_second"] == 25.0
    assert found["time_to_first_token_seconds"] == 8.0
    assert found["decode_tokens_per_second"] == pytest.approx(10 / 0.4)
    assert (found["prefill_peak_memory_bytes"], found["peak_memory_bytes"], found["kv_bytes"]) == (40, 400, 7)
    assert found["prefill_to_limit"] == 0.5
    assert found["prefill_to_transformers"] == 2.0
    assert found["decode_to_limit"] == 0.5
    assert rows[0].as_json()["prefill_to_limit"] is None


def test_memory_counts_from_the_start_of_each_run() -> None:
    class Large(Fake):
        def read(self, ids: Sequence[int], progress: Callable[[int, int], None] | None = None) -> Any:
            torch.ones(1 << 26).sum()  # 256 MiB, written to
            return super().read(ids)

    rows = compare([Large("large"), Fake("small")], [1], repeats=2, new_tokens=1, device=CPU)
    large, small = (row.as_json()["peak_memory_bytes"] for row in rows)
    if small:  # known on this system
        assert large > small + 200 * 2**20
