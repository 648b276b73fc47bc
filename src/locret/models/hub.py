"""Sharing retaining heads on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi
from torch import Tensor

from locret.errors import LocretError, first_line
from locret.models.card import Card
from locret.models.heads_config import HeadsConfig
from locret.models.heads_io import CONFIG, FILES, README, save_heads

HARMLESS = {*FILES, ".gitattributes", "LICENSE"}


def push_heads(
    config: HeadsConfig,
    tensors: Mapping[str, Tensor],
    repo_id: str,
    card: Card | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload retaining heads",
) -> str:
    """Make a hub repository if there is none yet, and upload heads and model card (`RetainingHeads.push_to_hub`)."""
    api = HfApi(token=token)
    try:
        repository = api.create_repo(repo_id, private=private, exist_ok=True)
        present = set(api.list_repo_files(repository.repo_id))
        _refuse_foreign(repository.repo_id, present)
        # A card that somebody has written is worth more than one made of nothing but the sizes.
        shown = card or (None if README in present else Card())
        with TemporaryDirectory() as folder:
            save_heads(config, tensors, Path(folder), shown, place=repository.repo_id)
            api.upload_folder(repo_id=repository.repo_id, folder_path=folder, commit_message=message)
    except LocretError:
        raise
    except Exception as error:  # besides the hub's own errors, whatever the network library raises
        raise LocretError(
            f"retaining heads could not be pushed to {repo_id!r} ({first_line(error)}): check the id, the "
            "network, and that you are logged in with the right to write there (`hf auth login`)"
        ) from error
    return str(repository)


def _refuse_foreign(repo_id: str, present: set[str]) -> None:
    foreign = sorted(present - HARMLESS)
    if foreign and CONFIG not in present:
        raise LocretError(f"{repo_id} holds {foreign[0]} and no retaining heads: push to a repository of their own")
