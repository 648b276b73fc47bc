"""Data sets of the Hugging Face hub, as local JSON files."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download

from locret.errors import LocretError

ENDINGS = (".jsonl", ".jsonl.gz", ".json")
METADATA = "*dataset_info*.json"


def fetch_dataset(name: str) -> list[Path]:
    """Download the JSON files of a hub data set, sorted by name; what is here already is reused.

    Raises:
        LocretError: no such file or data set, no network, or a data set without JSON files.
    """
    if name.count("/") != 1 or name.endswith(ENDINGS):
        raise LocretError(f"training data {name!r} not found: give a file or a hub id `owner/name`")
    patterns = [f"*{ending}" for ending in ENDINGS]
    try:
        folder = snapshot_download(name, repo_type="dataset", allow_patterns=patterns, ignore_patterns=METADATA)
    except Exception as error:  # besides its own errors, whatever the network library raises
        raise LocretError(
            f"training data {name!r} is no file here and could not be fetched from the hub "
            f"({type(error).__name__}): check the name, or the network"
        ) from error
    files = sorted(path for path in Path(folder).rglob("*") if path.name.endswith(ENDINGS))
    if not files:
        raise LocretError(
            f"the hub data set {name} has no {', '.join(ENDINGS)} file: export it as JSON lines "
            "(`datasets`: `load_dataset(...).to_json(...)`) and give that file"
        )
    return files
