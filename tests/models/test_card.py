"""Model cards say what the heads are; pushing uploads card and heads, and nothing over somebody else's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.utils import HFValidationError

import locret
from locret.models import hub
from locret.models.card import Card, is_hub_id, make_card
from tests.conftest import tiny_llama
from tests.models.published import tiny_heads

ROWS = [
    {"policy": "locret", "task": "magic", "length": 4096, "budget": 256, "samples": 64, "score": 99.0625, "seed": 1},
    {"policy": "full", "task": "a|b", "length": 4096, "budget": 4096, "samples": 64, "score": 100.0, "seed": 1},
]
CARD = Card(
    backbone="meta-llama/Llama-3.1-8B-Instruct",
    datasets=("Yukang/LongAlpaca-12k", "my own prompts"),
    results=ROWS,
    licence="apache-2.0",
    notes="Trained for 3000 steps.",
)
CONFIG = tiny_heads(tiny_llama()).config


def test_a_card_tells_all_there_is() -> None:
    card = make_card(CONFIG, torch.float32, CARD, "owner/heads")
    assert card.data.to_dict() == {
        "base_model": "meta-llama/Llama-3.1-8B-Instruct",
        "datasets": ["Yukang/LongAlpaca-12k"],
        "library_name": "locret",
        "license": "apache-2.0",
        "tags": ["locret", "retaining-heads", "kv-cache", "long-context"],
    }
    text = " ".join(card.text.split())
    for expected in (
        "# Retaining heads for meta-llama/Llama-3.1-8B-Instruct",
        "| layers | 3 |",
        "| parameters | 3936 |",
        "Objective: `logits`; the backbone was frozen. Data: Yukang/LongAlpaca-12k, my own prompts.",
        "Trained for 3000 steps.",
        "| policy | task | length | budget | samples | score |",
        "| locret | magic | 4096 | 256 | 64 | 99.06 |",
        "| full | a\\|b | 4096 | 4096 | 64 | 100 |",
        "locret.RetainingHeads.from_pretrained('owner/heads')",
        "--model meta-llama/Llama-3.1-8B-Instruct --heads owner/heads",
        "nothing will warn of others",
        "## Licence apache-2.0",
        "arxiv.org/abs/2410.01805",
    ):
        assert expected in text


def test_a_card_of_nothing_but_heads() -> None:
    heads = locret.RetainingHeads.from_config(tiny_llama().config, width=8, fingerprint=(0.5, 0.25))
    card = make_card(heads.config, torch.float32, Card(results=[{"bench": "x", "value": 1.5}]), "folder/heads")
    assert card.data.to_dict().keys() == {"library_name", "tags"}
    for expected in (
        "a llama model",
        "not trained. Data: not stated",
        "Not stated.",
        "refused on others",
        "| x | 1.5 |",
    ):
        assert expected in card.text


def test_the_code_of_a_card_is_valid() -> None:
    code = make_card(CONFIG, torch.float32, CARD, "owner/heads").text.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    settings = next(line for line in code.splitlines() if line.startswith("budget = "))
    assert eval(settings.removeprefix("budget = "), {"locret": locret}).size == 6000


def test_what_a_hub_id_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("owner/name")
    assert not any(map(is_hub_id, ("", "builtin", "owner/here", "/models/mine", "a/b/c", "my own prompts")))


def test_saving_writes_a_card_only_if_asked(tmp_path: Path) -> None:
    heads = tiny_heads(tiny_llama())
    heads.save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain" / "README.md").exists()
    heads.save_pretrained(tmp_path / "shown", CARD)
    card = ModelCard.load(tmp_path / "shown" / "README.md")
    assert card.data.license == "apache-2.0"
    assert str(tmp_path / "shown") in card.text
    assert locret.RetainingHeads.from_pretrained(tmp_path / "shown").config == heads.config


class Address(str):
    repo_id: str


class RecordingHub:
    """A stand-in for HfApi that remembers what was uploaded."""

    def __init__(self, present: Sequence[str] = (), error: Exception | None = None) -> None:
        self.present, self.error = list(present), error
        self.created: dict[str, Any] = {}
        self.token: str | None = None
        self.uploaded: dict[str, bytes] = {}

    def __call__(self, token: str | None = None) -> RecordingHub:
        self.token = token
        return self

    def create_repo(self, repo_id: str, **options: Any) -> Address:
        if self.error:
            raise self.error
        self.created = {"repo_id": repo_id, **options}
        address = Address(f"https://huggingface.co/me/{repo_id.split('/')[-1]}")
        address.repo_id = f"me/{repo_id.split('/')[-1]}"
        return address

    def list_repo_files(self, repo_id: str) -> list[str]:
        assert repo_id.startswith("me/")
        return self.present

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert repo_id.startswith("me/")
        self.uploaded = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def push(monkeypatch: pytest.MonkeyPatch, recording: RecordingHub, card: Card | None = None, **options: Any) -> str:
    monkeypatch.setattr(hub, "HfApi", recording)
    return tiny_heads(tiny_llama()).push_to_hub("heads", card, **options)


def test_pushing_uploads_heads_and_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recording = RecordingHub([".gitattributes"])
    assert push(monkeypatch, recording, CARD, private=True, token="t") == "https://huggingface.co/me/heads"
    assert recording.created == {"repo_id": "heads", "private": True, "exist_ok": True}
    assert recording.token == "t"
    assert sorted(recording.uploaded) == ["README.md", "heads.json", "heads.safetensors"]
    assert b"from_pretrained('me/heads')" in recording.uploaded["README.md"]
    for name, content in recording.uploaded.items():
        (tmp_path / name).write_bytes(content)
    assert locret.RetainingHeads.from_pretrained(tmp_path).config == tiny_heads(tiny_llama()).config


def test_a_card_that_is_there_stays_unless_a_new_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = RecordingHub(["heads.json", "heads.safetensors", "README.md"])
    push(monkeypatch, recording)
    assert "README.md" not in recording.uploaded
    push(monkeypatch, recording, CARD)
    assert "README.md" in recording.uploaded
    empty = RecordingHub()
    push(monkeypatch, empty)
    assert "README.md" in empty.uploaded


def test_a_repository_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = RecordingHub(["config.json", "model.safetensors"])
    with pytest.raises(locret.LocretError, match=r"me/heads holds config\.json and no retaining heads: push to"):
        push(monkeypatch, recording)
    assert not recording.uploaded


@pytest.mark.parametrize("error", [ConnectionError(), PermissionError("403 Forbidden\nmore"), RuntimeError("x")])
def test_a_push_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(locret.LocretError, match=r"could not be pushed to 'heads' \(.*\): check the id") as caught:
        push(monkeypatch, RecordingHub(error=error))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("repo_id", ["", "a/b/c", "with space", "-x"])
def test_a_malformed_id_is_refused_before_the_network_is_used(repo_id: str) -> None:
    with pytest.raises(locret.LocretError, match="could not be pushed") as caught:
        tiny_heads(tiny_llama()).push_to_hub(repo_id)
    assert isinstance(caught.value.__cause__, HFValidationError)
