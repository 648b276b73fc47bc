from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from locret.errors import LocretError
from locret.eval.benchmarks import source
from locret.eval.benchmarks.catalogue import get_benchmark_task
from locret.eval.benchmarks.source import find_file

PASSKEY = get_benchmark_task("infinitebench", "passkey")


def offer(monkeypatch: pytest.MonkeyPatch, folder: Path, error: type[Exception] = EntryNotFoundError) -> list[str]:
    """Let the hub be a local folder; what is asked of it is collected."""
    asked = []

    def download(repository: str, name: str, repo_type: str) -> str:
        assert repo_type == "dataset"
        asked.append(f"{repository}:{name}")
        if not (folder / name).exists():
            raise error(name)
        return str(folder / name)

    monkeypatch.setattr(source, "hf_hub_download", download)
    return asked


def test_files_and_folders(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "passkey.jsonl.gz"
    file.parent.mkdir()
    file.touch()
    assert find_file(PASSKEY, file) == file
    assert find_file(PASSKEY, str(tmp_path)) == file
    (tmp_path / "passkey.jsonl").touch()
    with pytest.raises(LocretError, match="has several files for passkey"):
        find_file(PASSKEY, tmp_path)
    with pytest.raises(LocretError, match=r"has no code_run.jsonl or code_run.jsonl.gz"):
        find_file(get_benchmark_task("infinitebench", "code_run"), tmp_path)
    with pytest.raises(LocretError, match=r"'no/such/file.jsonl' not found"):
        find_file(PASSKEY, "no/such/file.jsonl")


def test_the_authors_data_set_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passkey.jsonl").touch()
    asked = offer(monkeypatch, tmp_path)
    assert find_file(PASSKEY) == tmp_path / "passkey.jsonl"
    assert asked == ["xinrongzhang2022/InfiniteBench:passkey.jsonl"]


@pytest.mark.parametrize(("name", "folder"), [("coursera", "Exam"), ("news_summ", "Generation")])
def test_folders_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str) -> None:
    path = tmp_path / "LEval" / folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    offer(monkeypatch, tmp_path)
    assert find_file(get_benchmark_task("leval", name), "owner/copy") == path


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (EntryNotFoundError, "the hub data set owner/name has no passkey.jsonl"),
        (LocalEntryNotFoundError, r"could not be fetched from the hub \(LocalEntryNotFoundError\)"),
        (ConnectionError, r"could not be fetched from the hub \(ConnectionError\)"),
    ],
)
def test_a_hub_without_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], message: str
) -> None:
    offer(monkeypatch, tmp_path, error)
    with pytest.raises(LocretError, match=message):
        find_file(PASSKEY, "owner/name")


def test_a_benchmark_that_is_not_on_the_hub() -> None:
    with pytest.raises(LocretError, match="ruler has no data set on the hub"):
        find_file(get_benchmark_task("ruler", "vt"))
