"""What commands read when nothing is wrong, each as small as it can be."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from typer.testing import CliRunner

import locret
from locret.cli.app import app
from locret.models.original import export_heads
from tests.eval.models import TEXT, byte_llama, byte_tokenizer

ONE = "1"


@dataclass(frozen=True)
class Files:
    """Paths of good files in one folder; `run` and `results` are what `locret train` and `locret eval` have written."""

    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    def copy(self, name: str, folder: Path) -> Path:
        """A copy that may be harmed."""
        whole, copied = self.folder / name, folder / Path(name).name
        return shutil.copytree(whole, copied) if whole.is_dir() else Path(shutil.copyfile(whole, copied))


def commands(files: Files, out: Path) -> dict[str, tuple[str, ...]]:
    """A quick command line that succeeds, by name; the first word is the command."""
    model = ("--model", files["model"])
    units = ("--budget", "32", "--chunk", "16", "--stabilizers", "4", "--local", "4")
    train = ("--data", files["data.jsonl"], "--steps", "2", "--width", "4", "--warmup", ONE, "--max-length", "64")
    return {
        "generate": ("generate", *model, "--prompt-file", files["document.txt"], *units, "--max-new-tokens", "2"),
        "ids": ("generate", *model, "--prompt-ids", files["ids.json"], *units, "--max-new-tokens", "2"),
        "convert": ("convert", files["published.safetensors"], str(out), *model),
        "export": ("convert", files["model/heads"], f"{out}.bin", "--to-original"),
        "train": ("train", *model, *train, "--device", "cpu", "--save-every", ONE, "--out", str(out)),
        "eval": (
            "eval", *model, "--tasks", "magic", "--policies", "locret", "--lengths", "300", "--budgets", "64",
            "--samples", ONE, "--keys", ONE, "--filler", files["document.txt"], "--out", str(out),
        ),
        "score": ("score", "--benchmark", "ruler", "--task", "vt", "--predictions", files["predictions.jsonl"]),
        "bench": (
            "bench", "--model", files["model/config.json"], "--random-weights", "--width", "4", "--lengths", "40",
            "--policies", "locret,limit", *units, "--new-tokens", "2", "--repeats", ONE,
        ),
        "plan": ("plan", "--model", files["model/config.json"], "--length", "400", "--memory", "1GB"),
        "ruler": ("ruler", *model, "--task", "vt", "--length", "4000", "--samples", ONE, "--out", str(out)),
        "essay": ("ruler", *model, "--task", "niah_single_2", "--length", "2000", "--samples", ONE, "--essay",
                  files["document.txt"], "--out", str(out)),
        "questions": ("ruler", *model, "--task", "qa_1", "--length", "2000", "--samples", ONE, "--questions",
                      files["squad.json"], "--out", str(out)),
    }  # fmt: skip


def make_files(folder: Path) -> Files:
    """Write all of them."""
    files = Files(folder)
    model = byte_llama()
    model.save_pretrained(files["model"])
    byte_tokenizer().save_pretrained(files["model"])
    torch.manual_seed(0)
    heads = locret.RetainingHeads.from_config(model.config, width=4)
    heads.save_pretrained(files["model/heads"])
    export_heads(heads, files["published.safetensors"])
    (folder / "document.txt").write_text(TEXT[:2000], encoding="utf-8")
    (folder / "ids.json").write_text(json.dumps(list(range(2, 90))))
    record = {"input_ids": list(range(2, 60)), "answer_spans": [[40, 44]]}
    said = {"conversations": [{"from": "human", "value": "Who asked?"}, {"from": "gpt", "value": "Nobody."}]}
    (folder / "data.jsonl").write_text(f"{json.dumps(record)}\n{json.dumps(said)}\n")
    line = {"index": 0, "pred": "AB", "outputs": ["AB", "CD"]}
    (folder / "predictions.jsonl").write_text(json.dumps(line) + "\n")
    paragraph = {"context": "A text.", "qas": [{"question": "Which?", "answers": [{"text": "This."}]}]}
    squad = {"data": [{"paragraphs": [paragraph, {"context": "Another text.", "qas": []}]}]}
    (folder / "squad.json").write_text(json.dumps(squad))
    for name, out in (("train", "run"), ("eval", "results")):
        done = CliRunner().invoke(app, commands(files, folder / out)[name])
        assert done.exit_code == 0, done.stderr
    return files
