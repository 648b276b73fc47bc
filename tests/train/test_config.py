from __future__ import annotations

from typing import Any

import pytest

from locret.errors import LocretError
from locret.train.config import TrainConfig


def test_the_defaults_are_the_papers() -> None:
    config = TrainConfig()
    assert (config.steps, config.lr, config.betas) == (3000, 5e-4, (0.9, 0.95))
    assert (config.warmup_steps, config.batch_size, config.clip) == (2000, 1, 0.5)
    assert (config.max_length, config.smoothness, config.width) == (10240, 0.0025, 1024)
    assert (config.objective, config.seed, config.notices) == ("logits", 42, [])


def test_the_rate_rises_and_falls_linearly() -> None:
    config = TrainConfig(lr=1.0)
    assert config.learning_rate(0) == pytest.approx(1 / 2000)
    assert config.learning_rate(1999) == config.learning_rate(2000) == 1.0
    assert config.learning_rate(2500) == pytest.approx(0.5)
    assert config.learning_rate(2999) == pytest.approx(1 / 1000)


@pytest.mark.parametrize("steps", [1, 2, 3, 300, 2000])
def test_short_runs_warm_up_in_two_thirds_and_say_so(steps: int) -> None:
    config = TrainConfig(steps=steps)
    assert config.warmup_steps == steps * 2 // 3
    assert "warm-up of 2000 steps" in config.notices[0]
    assert all(0 < config.learning_rate(step) <= config.lr for step in range(steps))
    assert TrainConfig(steps=steps, warmup=0).notices == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"clip": float("inf")},
        {"smoothness": float("nan")},
        {"smoothness": float("inf")},
        {"batch_size": 10**12},
        {"clip": -1.0},
        {"max_length": 4},
        {"warmup": 3000},
        {"smoothness": -1.0},
        {"objective": "other"},
        {"dtype": "float16"},
    ],
)
def test_values_that_cannot_work_are_named(wrong: dict[str, Any]) -> None:
    value = str(next(iter(wrong.values())))
    with pytest.raises(LocretError, match=value):
        TrainConfig(**wrong)
