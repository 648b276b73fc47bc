"""Malformed inputs over all commands, at random: `python -m tests.cli.malformed --seed 0 --count 500`.

Each one is a command line that succeeds with one or two options spoilt, or with something wrong in a file that it
reads. It has to end as documented: exit code 2 and the usage, or 1 and one line on stderr, and nothing left behind.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from typer.testing import CliRunner, Result

from locret.cli.app import app
from tests.cli import bad_values as bad
from tests.cli.good_files import Files, commands, make_files

Spoil = Callable[[random.Random, Path], str]


def values(*groups: tuple[str, ...]) -> Spoil:
    """One of these values."""
    return lambda rng, folder: rng.choice(rng.choice(groups))


def files(kinds: dict[str, bytes], ending: str = "") -> Spoil:
    """A file that is none of what is wanted."""
    return lambda rng, folder: str(bad.bad_file(rng, folder, kinds, ending))


def taken(rng: random.Random, folder: Path) -> str:
    """A path for what is written, where something else is in the way."""
    (folder / "foreign").mkdir(exist_ok=True)
    (folder / "foreign" / "notes.txt").write_text("mine")
    (folder / "file").write_text("mine")
    return str(folder / rng.choice(("foreign", "file/below")))


HUGE, ZERO = (bad.HUGE, str(1 << 64)), ("0",)
COUNT = values(bad.WHOLE, HUGE, ZERO)  # wanted is at least 1, and not endless
SOME = values(bad.WHOLE, HUGE)  # 0 is right
STEPS = values(bad.WHOLE, ZERO)  # no number is too many
BITS = values(bad.WHOLE, HUGE, ("0", "5"))
METHODS = values(bad.METHOD)
WORDS, DEVICES, REAL = values(bad.WORD), values(bad.DEVICE), values(bad.REAL)
MODELS = files(bad.TEXTS)
LISTS = values(bad.LISTS)

READ: dict[str, Spoil] = {
    "--budget": COUNT, "--chunk": COUNT, "--stabilizers": SOME, "--local": SOME, "--pin-first": SOME,
    "--pin-newest": SOME, "--positions": WORDS, "--dtype": WORDS, "--device": DEVICES, "--model": MODELS,
    "--no-such-flag": WORDS,
}  # fmt: skip
OPTIONS: dict[str, dict[str, Spoil]] = {
    "generate": {
        **READ, "--prompt-file": files(bad.TEXTS), "--heads": MODELS, "--policy": METHODS, "--seed": SOME,
        "--max-new-tokens": COUNT, "--decode-budget": SOME, "--decode-every": COUNT, "--temperature": REAL,
        "--top-p": values(bad.REAL, ("0", "2")), "--top-k": STEPS, "--weight-bits": BITS, "--question": WORDS,
    },
    "ids": {"--prompt-ids": files(bad.JSONS), "--chat": values(("--chat",))},
    "convert": {"--model": MODELS, "SRC": files(bad.TEXTS, ".safetensors"), "DST": taken, "--no-such-flag": WORDS},
    "export": {"SRC": MODELS, "DST": values(("", "heads.pt", ".", "heads")), "--model": MODELS},
    "train": {
        "--data": files(bad.JSONS), "--steps": STEPS, "--lr": values(bad.REAL, ZERO), "--warmup": SOME,
        "--batch-size": COUNT, "--max-length": values(bad.WHOLE, ("0", "7")), "--width": COUNT, "--objective": WORDS,
        "--smoothness": REAL, "--seed": SOME, "--dtype": WORDS, "--device": DEVICES, "--save-every": STEPS,
        "--heads": MODELS, "--model": MODELS, "--out": taken,
    },
    "eval": {
        **READ, "--budget": WORDS, "--heads": MODELS, "--policies": METHODS,
        "--tasks": values(bad.WORD, (",", "leval/x")),
        "--lengths": LISTS, "--budgets": values(bad.BUDGETS), "--samples": COUNT, "--keys": COUNT,
        "--seed": values(bad.LISTS[:-2]), "--split": WORDS, "--filler": files(bad.TEXTS), "--max-new-tokens": STEPS,
        "--shard": values(bad.SHARDS), "--workers": STEPS, "--merge": files({}),
    },
    "score": {"--benchmark": WORDS, "--task": WORDS, "--predictions": files(bad.JSONS)},
    "bench": {
        **READ, "--width": COUNT, "--policies": METHODS, "--lengths": LISTS, "--new-tokens": COUNT, "--repeats": STEPS,
        "--seed": SOME,
    },
    "plan": {
        **READ, "--length": COUNT, "--memory": values(bad.MEMORY), "--policy": METHODS, "--storage": WORDS,
        "--width": COUNT, "--kv-bits": BITS, "--weight-bits": BITS,
    },
    "demo": {
        "--length": COUNT, "--budget": values(bad.BUDGETS), "--seed": SOME, "--device": DEVICES, "--heads": MODELS,
        "--model": MODELS,
    },
    "ruler": {
        "--task": WORDS, "--length": values(bad.WHOLE, HUGE, ("0", "5")), "--samples": COUNT, "--seed": SOME,
        "--model": MODELS, "--out": taken,
    },
    "essay": {"--essay": files(bad.TEXTS)},
    "questions": {"--questions": files(bad.JSONS), "--task": values(("qa_2",))},
}  # fmt: skip

# A good file or folder, what is changed in it, and the command with the option that names it.
CHANGED: tuple[tuple[str, str, str, str], ...] = (
    ("model", "config.json", "generate", "--model"),
    ("model", "generation_config.json", "generate", "--model"),
    ("model", "tokenizer_config.json", "generate", "--model"),
    ("model", "tokenizer.json", "generate", "--model"),
    ("model", "model.safetensors", "generate", "--model"),
    ("model", "heads/heads.json", "generate", "--model"),
    ("model", "config.json", "bench", "--model"),
    ("model", "config.json", "plan", "--model"),
    ("model", "config.json", "train", "--model"),
    ("model", "config.json", "convert", "--model"),
    ("model/heads", "heads.json", "train", "--heads"),
    ("model/heads", "heads.json", "export", "SRC"),
    ("model/heads", "heads.json", "eval", "--heads"),
    ("model/heads", "heads.safetensors", "generate", "--heads"),
    ("published.safetensors", "", "convert", "SRC"),
    ("ids.json", "", "ids", "--prompt-ids"),
    ("data.jsonl", "", "train", "--data"),
    ("run", "run.json", "train", "--out"),
    ("run", "log.jsonl", "train", "--out"),
    ("run", "checkpoints/step-00000002/state.json", "train", "--out"),
    ("run", "checkpoints/step-00000002/heads.json", "train", "--out"),
    ("run", "checkpoints/step-00000002/optimizer.safetensors", "train", "--out"),
    ("results", "results.jsonl", "eval", "--out"),
    ("results", "predictions/*/magic.jsonl", "eval", "--out"),
    ("results", "results.jsonl", "eval", "--merge"),
    ("results", "predictions/*/cell.json", "eval", "--merge"),
    ("results", "predictions/*/magic.jsonl", "eval", "--merge"),
    ("predictions.jsonl", "", "score", "--predictions"),
    ("squad.json", "", "questions", "--questions"),
)


@dataclass(frozen=True)
class Case:
    """A malformed input.

    Attributes:
        arguments: of the command line.
        refused: whether it has to fail; what was changed in a file may do no harm.
    """

    arguments: tuple[str, ...]
    refused: bool


def make_case(rng: random.Random, good: Files, folder: Path) -> Case:
    """Draw one; what it needs is written into `folder`."""
    if rng.random() < 0.4:
        return _changed(rng, good, folder)
    name = rng.choice(list(OPTIONS))
    base = {**commands(good, folder / "out"), "demo": ("demo", "--out", str(folder / "out.png"))}[name]
    options = OPTIONS[name]
    chosen = rng.sample(list(options), rng.choice((1, 1, min(2, len(options)))))
    return Case(_with(base, {flag: options[flag](rng, folder) for flag in chosen}), refused=True)


def _changed(rng: random.Random, good: Files, folder: Path) -> Case:
    named, part, command, flag = rng.choice(CHANGED)
    copied = good.copy(named, folder)
    [path] = copied.glob(part) if part else [copied]
    (bad.change_tensors if path.suffix == ".safetensors" else bad.change_json)(rng, path)
    again = ("--resume",) if named == "run" else ()
    base = commands(good, folder / "out")[command]
    return Case(
        (*_with(base, {flag: str(copied / path.name if command in ("bench", "plan") else copied)}), *again), False
    )


def _with(base: tuple[str, ...], spoilt: Mapping[str, str]) -> tuple[str, ...]:
    """A command line with other values; an option that it does not have is put behind it."""
    words = list(base)
    for flag, value in spoilt.items():
        if flag in ("SRC", "DST"):
            words[1 + ("SRC", "DST").index(flag)] = value
        elif flag in words:
            words[words.index(flag) + 1] = value
        else:
            words += [flag] if flag == value else [flag, value]
    return tuple(words)


def complaints(case: Case, result: Result, left: set[str]) -> Iterator[str]:
    """What is not as documented."""
    code, lines = result.exit_code, result.stderr.splitlines()
    if code == 0:
        if case.refused:
            yield "taken"
        return
    if code not in (1, 2):
        yield f"exit code {code}"
    if result.stdout:
        yield "something on stdout"
    if code == 1 and (len(lines) != 1 or not lines[0].startswith("locret: ")):
        yield f"{len(lines)} lines on stderr"
    if code == 2 and "Usage: " not in result.stderr:
        yield "no usage"
    if "Traceback" in result.stderr or (code == 1 and "unexpected" in result.stderr):
        yield "an exception that nobody foresaw"
    if left:
        yield f"left behind: {', '.join(sorted(left))}"


def run_cases(seed: int, count: int, folder: Path) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Run so many; gives the exit codes by command, and what is wrong, a paragraph each."""
    rng, codes, faults = random.Random(f"malformed {seed}"), Counter[tuple[str, int]](), []
    with patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
        good = make_files(folder / "good")
        for number in range(count):
            work = folder / str(number)
            work.mkdir()
            case = make_case(rng, good, work)
            before = set(_files(work))
            result = CliRunner().invoke(app, case.arguments)
            left = set() if result.exit_code == 0 else set(_files(work)) - before
            codes[case.arguments[0], result.exit_code] += 1
            wrong = "; ".join(complaints(case, result, left))
            if wrong:
                shown = " ".join(repr(word)[:120] for word in case.arguments)
                faults.append(f"{number}: {wrong}\n  {shown}\n  {result.stderr[:600]}")
            shutil.rmtree(work)
    return codes, faults


def _files(folder: Path) -> Iterator[str]:
    """All files, with their sizes."""
    return (f"{path.relative_to(folder)} {path.stat().st_size}" for path in folder.rglob("*") if path.is_file())


def table(codes: Mapping[tuple[str, int], int]) -> str:
    """The count by command: refused as bad usage, refused as a failure, and taken, as what was changed did no harm."""
    lines = [f"{'command':10}{'inputs':>8}{'exit 2':>8}{'exit 1':>8}{'taken':>8}"]
    names = sorted({name for name, _ in codes})
    for name in [*names, "all"]:
        own = Counter[int]()
        for (command, code), count in codes.items():
            own[code] += count if name in (command, "all") else 0
        lines.append(f"{name:10}{own.total():8}{own[2]:8}{own[1]:8}{own[0]:8}")
    return "\n".join(lines)


def main() -> int:
    """Print the table, and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        codes, faults = run_cases(options.seed, options.count, Path(folder))
    print(table(codes))
    print("\n".join(faults) or "all as documented")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
