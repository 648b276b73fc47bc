"""Values that no option takes, files that no command reads, and valid JSON with something wrong in it."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

HUGE = "9" * 30
WHOLE = ("", " ", "abc", "1.5", "nan", "inf", "-1", f"-{HUGE}", "9" * 6000, "0x10", "1 2", "🙂", "1,,2", "None")
REAL = ("", "abc", "nan", "-1", "-inf", "inf", "1e400", "1,5", "🙂")
WORD = ("", " ", "none", "🙂", "x" * 5000, "LOCRET", "+", "a/b/c", "-", "\t")
DEVICE = ("", "xla", "meta", "mkldnn", "cuda:99", "cpu:x", "gpu", "CPU", "cuda:-1", "privateuseone", "cuda:0:1")
METHOD = (*WORD, "locret+", "locret+full", "quant4+quant4", "locret+infllm", "kvpress:none")
MEMORY = ("", "GB", "24 apples", "-1GB", "0", "1e400GB", "nanGB", "infGB", "1e30TB", "1.2.3GB", "🙂")
LISTS = ("", ",", "a", "1,a", "nan", "-5", "9" * 6000, HUGE, "0", "1;2")
BUDGETS = ("", "0", "1/0", "-1/2", "1/", "a/b", "nan", HUGE, "0/5", "9" * 6000, "1e5")
SHARDS = ("", "1", "1/1", "-1/2", "a/b", "0/0", "0/", "/", f"{'9' * 6000}/1", "0/1/2")
WRONG: tuple[Any, ...] = (None, True, -1, 0, 1.5, float("nan"), float("inf"), "", "x", [], {}, [None], {"a": 1}, 10**30)

NESTED = "[" * 100_000
TEXTS: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t",
    "latin.txt": "caf\u00e9 ".encode("latin-1") * 9,
    "zero.txt": b"a\0b",
    "binary": bytes(range(256)) * 4,
    "utf16.txt": "text".encode("utf-16"),
    "cut.gz": gzip.compress(b"a text of some length " * 90, mtime=0)[:-9],
    "bad.gz": gzip.compress(bytes(range(256)) * 9, mtime=0)[:40] + b"\x07" * 60,
    "cut.jsonl.gz": gzip.compress(b'{"text": "a"}\n' * 90, mtime=0)[:-9],
}
JSONS: dict[str, bytes] = {
    **TEXTS,
    "false.gz": b"no gzip at all",
    "nested.json": NESTED.encode(),
    "digits.json": b"[" + b"7" * 6000 + b"]",
    "half.json": b'{"a": [1, 2',
    **{f"{name}.json": text.encode() for name, text in (("null", "null"), ("number", "5"), ("text", '"a"'))},
    **{f"{name}.json": text.encode() for name, text in (("list", "[null]"), ("object", '{"a": {}}'), ("nan", "[NaN]"))},
    "lines.jsonl": b"null\n[]\n",
    "nested.jsonl": b'{"a": ' + NESTED.encode() + b"}\n",
    "digits.jsonl": b'{"a": ' + b"7" * 6000 + b"}\n",
}


def bad_file(rng: random.Random, folder: Path, kinds: dict[str, bytes], ending: str = "") -> Path:
    """A file that cannot be read as one of these kinds, a folder, a device, or nothing at all."""
    name = rng.choice([*kinds, "missing", "folder", "device", "long"])
    if name == "device":
        return Path(rng.choice(("/dev/null", "/dev/full/x")))
    path = folder / (("l" * 300 if name == "long" else name) + ending)
    if name == "folder":
        path.mkdir()
    elif name in kinds:
        path.write_bytes(kinds[name])
    return path


def change_json(rng: random.Random, path: Path) -> None:
    """Put something wrong into a file of JSON or JSON lines: a value of another type, or a field less."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    place = rng.randrange(len(lines))
    value = json.loads(lines[place])
    makers = (_changed, _changed, lambda rng, value: json.dumps(rng.choice(WRONG)), lambda *_: "{", lambda *_: NESTED)
    lines[place] = rng.choice(makers)(rng, value)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _changed(rng: random.Random, value: Any) -> str:
    holder = value
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = rng.choice(keys)
        if not isinstance(holder[key], (dict, list)) or not holder[key] or rng.random() < 0.5:
            break
        holder = holder[key]
    if rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(WRONG)
    return json.dumps(value)


def change_tensors(rng: random.Random, path: Path) -> None:
    """Damage a safetensors file: cut, or with tensors of another dtype, shape, name or number."""
    data, tensors = path.read_bytes(), load_file(path)
    name = rng.choice(sorted(tensors))
    harm = rng.choice(("cut", "head", "empty", "dtype", "shape", "gone", "more", "scalar", "nan"))
    if harm in ("cut", "head", "empty"):
        path.write_bytes({"cut": data[: len(data) // 2], "head": b"\xff" * 8 + data[8:], "empty": b""}[harm])
        return
    if harm == "dtype":
        dtype = rng.choice((torch.int8, torch.bool, torch.int64, torch.complex64))
        tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    elif harm == "gone":
        del tensors[name]
    elif harm == "more":
        tensors[f"layers.{'7' * 5000}.fc1.weight"] = torch.zeros(2)
    else:
        tensors[name] = {"shape": torch.zeros(3, 5), "scalar": torch.tensor(1.0), "nan": tensors[name] / 0}[harm]
    save_file(tensors, path)
