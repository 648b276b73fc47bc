"""Bad GGUF files, made of a good one: `python -m tests.models.bad_gguf FOLDER` writes them and says what is wrong."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian

import locret
from tests.models.gguf_files import Draft, draft_of, small_llama

NAME = "model.gguf"
Q = "blk.0.attn_q.weight"
Bad = Callable[[Draft, Path], Path]


def _bytes(make: Callable[[bytes], bytes]) -> Bad:
    """The good file with its bytes changed."""

    def bad(draft: Draft, folder: Path) -> Path:
        path = draft.write(folder / NAME)
        path.write_bytes(make(path.read_bytes()))
        return path

    return bad


def _draft(make: Callable[[Draft], Draft], name: str = NAME) -> Bad:
    """A file of a changed draft."""
    return lambda draft, folder: make(draft).write(folder / name)


def _long_key(data: bytes) -> bytes:
    """The first key says that it is longer than any file."""
    return data[:24] + struct.pack("<Q", 1 << 60) + data[32:]


def _two_files(draft: Draft, folder: Path) -> Path:
    draft.write(folder / "one.gguf")
    draft.write(folder / "two.gguf")
    return folder


def _parts(draft: Draft, folder: Path) -> Path:
    draft.write(folder / "model-00001-of-00003.gguf")
    draft.write(folder / "model-00002-of-00003.gguf")
    return folder


def _projector(draft: Draft, folder: Path) -> Path:
    draft.write(folder / "mmproj-model.gguf")
    return folder


def _missing(draft: Draft, folder: Path) -> Path:
    return folder / "none.gguf"


def _architecture(name: str) -> Bad:
    def bad(draft: Draft, folder: Path) -> Path:
        values = {key.replace(draft.architecture, name): value for key, value in draft.values.items()}
        return Draft(name, values, draft.tensors).write(folder / NAME)

    return bad


def _as_kind(kind: int) -> Bad:
    """A matrix is said to be of another quantisation type."""
    name, code = Q.encode(), struct.pack("<I", kind)

    def change(data: bytes) -> bytes:
        place = data.index(name) + len(name) + 4 + 2 * 8
        return data[:place] + code + data[place + 4 :]

    return _bytes(change)


# What is wrong -> how it is made, and what the message says.
BAD: dict[str, tuple[Bad, str]] = {
    "empty": (_bytes(lambda data: b""), "is empty: fetch it again"),
    "text": (_bytes(lambda data: b"This is a text."), "is no GGUF file, as it begins with b'This'"),
    "wrong magic": (_bytes(lambda data: b"GGML" + data[4:]), "is no GGUF file, as it begins with b'GGML'"),
    "four bytes": (_bytes(lambda data: data[:4]), "is damaged or cut short"),
    "cut in the header": (_bytes(lambda data: data[:300]), "is damaged or cut short: its header cannot be read"),
    "cut in the weights": (_bytes(lambda data: data[:-100]), r"is cut short: it has \d+ bytes of \d+"),
    "impossible length": (_bytes(_long_key), "is damaged or cut short: its header cannot be read"),
    "version 1": (_bytes(lambda data: data[:4] + b"\1\0\0\0" + data[8:]), "GGUF version 1, known are 2 and 3"),
    "big-endian": (lambda draft, folder: draft.write(folder / NAME, GGUFEndian.BIG), "is a big-endian GGUF file"),
    "unknown architecture": (_architecture("gemma9"), "architecture 'gemma9', which is not read from GGUF files"),
    "unsupported family": (_architecture("mamba"), "architecture 'mamba', which is not read from GGUF files"),
    "image projector": (_architecture("clip"), r"is the image projector \(mmproj\)"),
    "image projector by name": (_draft(lambda d: d, "mmproj-model.gguf"), r"is the image projector \(mmproj\)"),
    "adapter": (_draft(lambda d: d.changed(general__type="adapter")), "holds no model but 'adapter'"),
    "split, by name": (_draft(lambda d: d, "model-00001-of-00003.gguf"), "is one of 3 parts of a model: join them"),
    "split, by its keys": (_draft(lambda d: d.changed(split__count=2)), "is one of 2 parts of a model"),
    "split into words": (
        _draft(lambda d: d.changed(split__count="two")), "has split.count of 'two', which is no number of parts"
    ),
    "two in a folder": (_two_files, r"has 2 GGUF files \(one.gguf, two.gguf ...\): name one of them"),
    "parts in a folder": (_parts, "is one of 3 parts of a model: join them"),
    "a projector alone in a folder": (_projector, r"is the image projector \(mmproj\)"),
    "not there": (_missing, "is not here: check the path; a GGUF file on the hub is owner/name:file.gguf"),
    "no tokenizer": (_draft(lambda d: d.changed(tokenizer__ggml__model=None)), "has no tokenizer in it"),
    "unknown tokenizer": (_draft(lambda d: d.changed(tokenizer__ggml__model="rwkv")), "is 'rwkv' and cannot be read"),
    "too many tokens": (
        _draft(lambda d: d.with_tensor("token_embd.weight", d.tensors["token_embd.weight"][:-5])),
        r"has \d+ tokens in its vocabulary, but token_embd.weight has \d+ rows",
    ),
    "tokens in a text": (
        _draft(lambda d: d.changed(tokenizer__ggml__tokens="the")),
        "has tokenizer.ggml.tokens of 'the', which is no list of tokens: fetch it again",
    ),
    "tokens that are numbers": (
        _draft(lambda d: d.changed(tokenizer__ggml__tokens=[1, 2])), r"has tokenizer.ggml.tokens of '\[1, 2\]'"
    ),
    "an end in words": (
        _draft(lambda d: d.changed(tokenizer__ggml__eos_token_id="end")),
        "has tokenizer.ggml.eos_token_id of 'end', which is no token id",
    ),
    "unknown quantisation": (_as_kind(99), "quantisation type number 99, which cannot be dequantised here"),
    "quantisation of no weights": (
        _as_kind(GGMLQuantizationType.Q8_1), "quantisation type Q8_1, which cannot be dequantised here"
    ),
    "missing key": (_draft(lambda d: d.changed(llama__block_count=None)), "does not say llama.block_count"),
    "millions of layers": (
        _draft(lambda d: d.changed(llama__block_count=2_000_000_000)),
        "has llama.block_count of 2000000000, but its tensors are those of 3 layers",
    ),
    "too few layers": (
        _draft(lambda d: d.changed(llama__block_count=2)), "block_count of 2, but its tensors are those of 3 layers"
    ),
    "half a layer": (
        _draft(lambda d: d.changed(llama__block_count=2.5)), "block_count of 2.5, which has to be a whole number"
    ),
    "no context": (
        _draft(lambda d: d.changed(llama__context_length=0)),
        "has llama.context_length of 0, which has to be a number above 0",
    ),
    "epsilon that is no number": (
        _draft(lambda d: d.changed(llama__attention__layer_norm_rms_epsilon=float("nan"))),
        "layer_norm_rms_epsilon of nan, which has to be a number above 0",
    ),
    "rotary base that is no number": (
        _draft(lambda d: d.changed(llama__rope__freq_base=float("nan"))),
        "has llama.rope.freq_base of nan, which has to be a number above 0",
    ),
    "no heads": (_draft(lambda d: d.changed(llama__attention__head_count=0)), "describes no llama model"),
    "missing tensor": (_draft(lambda d: d.without(Q)), "has no tensor for model.layers.0.self_attn.q_proj.weight"),
    "no embedding": (_draft(lambda d: d.without("token_embd.weight")), "has no tensor token_embd.weight"),
    "foreign tensor": (
        _draft(lambda d: d.with_tensor("blk.0.attn_q.bias", np.ones(64))),
        "has the tensor blk.0.attn_q.bias, which no llama model has",
    ),
    "another shape": (
        _draft(lambda d: d.with_tensor("blk.0.ffn_up.weight", np.ones((32, 64)))),
        r"up_proj.weight has shape \[32, 64\], but its header describes \[64, 64\]",
    ),
    "experts": (_draft(lambda d: d.changed(llama__expert_count=8)), "is a mixture of experts of the architecture"),
    "uneven layers": (
        _draft(lambda d: d.changed(llama__attention__head_count_kv=[2, 2, 1])), "only one number for all layers is read"
    ),
    "unknown scaling": (
        _draft(lambda d: d.changed(llama__rope__scaling__type="ntk", llama__rope__scaling__factor=2.0)),
        "scales its rotary embedding by 'ntk'",
    ),
    "part of a head rotated": (
        _draft(lambda d: d.changed(llama__rope__dimension_count=8)), "rotates 8 of 16 dimensions of a head"
    ),
    "frequencies of its own": (
        _draft(lambda d: d.with_tensor("rope_freqs.weight", np.full(8, 3.0))), "that are not Llama 3's"
    ),
}  # fmt: skip


def write_bad(kind: str, folder: Path) -> Path:
    """Write the bad file of a kind; the path is what `--model` is to be given."""
    make, _ = BAD[kind]
    return make(draft_of(small_llama()), folder)


def main(folder: Path) -> None:
    """Write one of every kind, each into a folder of its own, and print what loading it says."""
    for kind in BAD:
        path = write_bad(kind, folder / kind.replace(" ", "-").replace(",", ""))
        try:
            locret.load_model(str(path))
        except locret.LocretError as error:
            print(f"{kind}: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
