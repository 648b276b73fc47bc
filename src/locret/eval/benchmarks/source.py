"""Where a benchmark's files come from: a file or folder here, or a data set of the hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from locret.errors import LocretError
from locret.eval.benchmarks.base import BenchmarkTask

HUB = {"infinitebench": "xinrongzhang2022/InfiniteBench", "leval": "L4NLP/LEval"}
ENDINGS = (".jsonl", ".jsonl.gz")
HUB_FOLDERS = ("", "LEval/Exam/", "LEval/Generation/")


def find_file(task: BenchmarkTask, source: str | Path | None = None) -> Path:
    """The original file of a task.

    Args:
        task: of which benchmark and task.
        source: the file, a folder that holds `<task>.jsonl` or `<task>.jsonl.gz`, or a hub id `owner/name`. By default
            the data set that the benchmark's authors keep on the hub.

    Raises:
        LocretError: there is no such file, or the hub cannot be reached.
    """
    if source is None:
        if task.benchmark not in HUB:
            raise LocretError(f"{task.benchmark} has no data set on the hub: give a file or a folder")
        return _download(task.name, HUB[task.benchmark])
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return _in_folder(task.name, path)
    if str(source).count("/") != 1 or str(source).endswith(ENDINGS):
        raise LocretError(f"benchmark data {str(source)!r} not found: give a file, a folder or a hub id `owner/name`")
    return _download(task.name, str(source))


def _in_folder(name: str, folder: Path) -> Path:
    found = sorted(path for ending in ENDINGS for path in folder.rglob(name + ending))
    if not found:
        raise LocretError(f"{folder} has no {' or '.join(name + ending for ending in ENDINGS)}: name the file itself")
    if len(found) > 1:
        raise LocretError(f"{folder} has several files for {name}: give one of {', '.join(map(str, found))}")
    return found[0]


def _download(name: str, repository: str) -> Path:
    for folder in HUB_FOLDERS:
        try:
            return Path(hf_hub_download(repository, f"{folder}{name}.jsonl", repo_type="dataset"))
        except LocalEntryNotFoundError as error:  # also says that there is no such entry, but means the network
            raise _unreachable(repository, error) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # besides its own errors, whatever the network library raises
            raise _unreachable(repository, error) from error
    raise LocretError(f"the hub data set {repository} has no {name}.jsonl: name another, or a file here")


def _unreachable(repository: str, error: Exception) -> LocretError:
    return LocretError(
        f"{repository!r} is no file here and could not be fetched from the hub ({type(error).__name__}): "
        "check the name, or the network, or give a file"
    )
