"""Where published heads come from: a file, a folder or the hub, whole models and sharded ones included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import snapshot_download

from locret.errors import LocretError
from locret.models.heads_io import CONFIG
from locret.models.original import EXAMPLE, has_heads, head_names
from locret.models.state_dicts import PICKLES, StateDict, open_tensors
from locret.texts import read_json

BACKBONE = "config.json"
INDEX = "*.index.json"
# Left by training beside the weights; some hold more than tensors, none holds heads.
NOT_WEIGHTS = ("training_args.bin", "optimizer*", "scheduler*", "rng_state*")
Fetch = Callable[[Sequence[str], Sequence[str]], Path]  # patterns, what to leave out -> the folder


@dataclass(frozen=True)
class Source:
    """Published heads, found.

    Attributes:
        tensors: the state dict that holds them.
        config: the config.json that lies in the same folder, if there is one.
    """

    tensors: StateDict
    config: Path | None = None


def find_source(name: str | Path) -> Source:
    """Find the state dict with retaining heads; of the tensors, only names are read.

    Args:
        name: a .safetensors, .bin or .pt file; a folder with such files, sharded or not; a hub id.

    Raises:
        LocretError: nothing there, nothing with heads, more than one file with heads, damaged files.
    """
    path = Path(name)
    if path.is_file():
        return Source(StateDict.of_file(str(name), path))
    fetch: Fetch = (lambda patterns, ignored: path) if path.is_dir() else partial(_from_hub, str(name))
    folder = fetch([BACKBONE, CONFIG, INDEX], ())
    if (folder / CONFIG).is_file():
        raise LocretError(
            f"{name} has a {CONFIG}: its heads are in this package's format already, load them as they are"
        )
    config = folder / BACKBONE
    for tensors in _candidates(str(name), folder, fetch):
        if has_heads(tensors.files):
            return Source(tensors, config if config.is_file() else None)
    raise LocretError(f"{name} holds no retaining heads: a state dict with names like {EXAMPLE} is expected there")


def _candidates(name: str, folder: Path, fetch: Fetch) -> Iterator[StateDict]:
    """State dicts that may hold the heads: sharded ones, .safetensors files, pickles at last."""
    known: set[str] = set()  # shards, whose tensors the index has told
    for index in sorted(folder.glob(INDEX)):
        shards = _read_index(index)
        known |= set(shards.values())
        if has_heads(shards):
            stems = tuple(names.stem for names in head_names(name, shards).values())
            fetch(sorted({shard for tensor, shard in shards.items() if tensor.startswith(stems)}), ())
        files = {shard: open_tensors(folder / shard) for shard in set(shards.values())}
        yield StateDict(name, {tensor: files[shard] for tensor, shard in shards.items()})
    for endings in ((".safetensors",), PICKLES):
        fetch([f"*{ending}" for ending in endings], sorted(known))
        paths = sorted(path for path in folder.glob("*") if path.suffix in endings and path.name not in known)
        states = (StateDict.of_file(str(path), path) for path in paths if _may_hold_weights(path))
        found = [state for state in states if has_heads(state.files)]
        if len(found) > 1:
            raise LocretError(
                f"{name} has several files with retaining heads, {found[0].source} and {found[1].source}: name one file"
            )
        yield from found


def _read_index(index: Path) -> dict[str, str]:
    """The names in an index of shards: tensor -> file."""
    try:
        shards = {str(tensor): str(shard) for tensor, shard in read_json(index)["weight_map"].items()}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LocretError(f"{index} is no index of shards ({type(error).__name__}: {error}): fetch it again") from error
    for shard in shards.values():
        if Path(shard).name != shard:
            raise LocretError(f"{index} names {shard!r}, which is not a file beside it: fetch it again")
    return shards


def _may_hold_weights(path: Path) -> bool:
    return path.is_file() and not any(path.match(pattern) for pattern in NOT_WEIGHTS)


def _from_hub(name: str, patterns: Sequence[str], ignored: Sequence[str]) -> Path:
    """Download the files of a hub repository that fit the patterns; those that are here already are reused."""
    try:
        # Folders inside a repository hold copies in other formats.
        left_out = [*ignored, *NOT_WEIGHTS, "*/*"]
        return Path(snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=left_out))
    except Exception as error:  # a lost network surfaces as errors of several libraries
        raise LocretError(
            f"{name!r} is neither a file nor a folder here, nor could it be fetched from the hub "
            f"({type(error).__name__}): check the path, or the network"
        ) from error
