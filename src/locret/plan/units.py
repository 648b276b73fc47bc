"""Keys and values on their way through a pass: appended, decoded, moved, cut.

This follows the storages as they are: units are appended by `torch.cat` (the old and the new tensors at once) and cut
by `gather` (all units of the chunk, for attention, beside the kept ones). A storage that writes in place would lose
"units, stored" beside "units, grown", and "units, cut".
"""

from __future__ import annotations

from locret.plan.work import FP32, INT64, Terms, Work


def stored(w: Work) -> Terms:
    """Before they are touched."""
    return {"units": w.before}


def left(w: Work) -> Terms:
    """After the pass."""
    return {"units": w.after}


def appended(w: Work) -> Terms:
    """The stored ones, and all of them with the new ones behind."""
    return {"units, stored": w.before, "units, grown": w.grown, **_decoded(w)}


def grown(w: Work) -> Terms:
    """Between append and cut: what is stored, and what attention is given of it, unless that is the same."""
    moved = w.dense(w.at.units) // 2 if w.moves and w.unit.exact else 0
    return {"units, grown": w.grown, "units, moved keys": moved, **_decoded(w)}


def decoding(w: Work) -> Terms:
    """The values of a packed storage on their way to attention: codes, and three steps of arithmetic in fp32."""
    if w.unit.exact or not w.at.stored:
        return {}
    numbers = w.at.stored * w.sizes.kv_width
    return {"units, grown": w.grown, **_decoded(w), "decoding": numbers * (1 + 3 * FP32)}


def moving(w: Work) -> Terms:
    """Re-rotation of the keys in fp32: angles, cos and sin of half a head, and four halves of products and sums."""
    if not w.moves:
        return {}
    half = w.at.units * w.sizes.kv_width // 2 * FP32
    copied = w.element != FP32 or not w.unit.exact
    decoded = 0 if w.unit.exact else w.at.stored * w.sizes.kv_width * (FP32 + w.element)
    return {
        "units, grown": w.grown,
        "decoded keys, values": decoded,
        "keys in fp32": 2 * half if copied else 0,
        "angles, cos, sin": 3 * half,
        "moves": w.units(w.at.units, INT64),
        "rotary products": 4 * half,
    }


def selecting(w: Work) -> Terms:
    """The order of the scores, and the indices of what stays, three to a unit out of `nonzero`."""
    indices = w.units(w.at.kept, 4 * INT64) + w.units(w.at.units, INT64 + FP32)
    return {**grown(w), "selection": indices} if w.at.cuts else {}


def cutting(w: Work) -> Terms:
    """The kept ones beside all of them."""
    return {**grown(w), "units, cut": w.after, "selection": w.units(w.at.kept, INT64)} if w.at.cuts else {}


def attended(w: Work) -> Terms:
    """After the cut: what is stored from now on, beside what attention was given."""
    given = {"units, grown": w.grown} if w.unit.exact else _decoded(w)
    return {**given, "units, cut": w.after} if w.at.cuts else {"units, grown": w.grown, **given}


def _decoded(w: Work) -> Terms:
    return {} if w.unit.exact else {"units, decoded": w.dense(w.at.units)}
